"""The example pictures of a report's page, each with its question and what the rows answered.

example_panels(examples, example_note(document))          # HTML that holds the pictures; all text escaped
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from umecache.analysis.panel import Example, Prediction
from umecache.analysis.pictures import jpeg_uri, opened, within
from umecache.analysis.tables import escape
from umecache.data.scoring import EXACT

_PIXELS = 320  # of a picture's longest side
_LISTED = 10  # rows that an example names one by one
_DRAWN = (
    "Drawn at random from the questions on which rows differ, one per question type as far as there are; first seed."
)
SHUFFLED = "A negative control: no row saw the picture that is shown here; each saw another question's."


def example_note(document: Mapping[str, Any]) -> str:
    """How a comparison's examples were chosen, and how they are to be read."""
    wrong = (
        "it is not the label" if document["protocol"] == EXACT else "fewer than two other annotators gave that answer"
    )
    said = [_DRAWN, f"Struck through: {wrong}."]
    if (document.get("asked") or {}).get("shuffle_images"):
        said.append(SHUFFLED)
    return " ".join(said)


def example_panels(examples: Sequence[Example], note: str) -> str:
    """A grid of pictures with their questions, and a note below."""
    return f'<div class="panels">{"".join(map(_panel, examples))}</div><p class="lead">{escape(note)}</p>'


def _panel(example: Example) -> str:
    image = opened(example.image)
    if image is None:
        picture = '<div class="none">no image</div>'
    else:
        picture = f'<img alt="" src="{jpeg_uri(within(image, _PIXELS))}">'
    lines = f"<dt>answer</dt><dd>{escape(example.truth)}</dd>"
    lines += _grouped(example) if len(example.predictions) > _LISTED else _listed(example)
    return f'<div class="panel">{picture}<b>{escape(example.question)}</b><dl>{lines}</dl></div>'


def _listed(example: Example) -> str:
    return "".join(f"<dt>{escape(each.method)}</dt><dd>{_answer(each)}</dd>" for each in example.predictions)


def _grouped(example: Example) -> str:
    """Many rows: each answer once, the most frequent first, and who gave it."""
    told: dict[str, list[Prediction]] = {}
    for each in example.predictions:
        told.setdefault(each.answer, []).append(each)
    groups = sorted(told.values(), key=len, reverse=True)
    return "".join(
        f"<dt>{_answer(group[0])}</dt><dd>{escape(', '.join(each.method for each in group))}</dd>" for group in groups
    )


def _answer(each: Prediction) -> str:
    return f'<span class="{"right" if each.right else "wrong"}">{escape(each.answer or "(nothing)")}</span>'
