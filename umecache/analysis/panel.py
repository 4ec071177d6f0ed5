"""Pictures with a question, its true answer and what several methods predicted; wrong predictions struck through.

    examples = choose_examples(split, predictions, count=8, seed=0)   # predictions: method -> {question id: answer}
    example_panel(examples, Path("examples.png"))

The layout follows the thesis that proposed UME, which prints predictions under each picture, wrong ones struck through.
A prediction counts as wrong where its official score is below 0.5: fewer than two other annotators gave it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from umecache.analysis.lettering import (
    FAINT,
    LINE,
    METHOD,
    NOTE,
    QUESTION,
    RIGHT,
    TRUTH,
    WRONG,
    cut,
    say,
    strike,
    wrapped,
)
from umecache.analysis.pictures import opened, within
from umecache.data.dataset import Question, Split
from umecache.data.files import write_bytes
from umecache.data.scoring import score_answer

RIGHT_SCORE = 0.5
COLUMNS = 4
DPI = 160
# Inches.
COLUMN_WIDTH, PICTURE = 1.85, 1.69
_EDGE, _ROW_GAP, _METHOD_WIDTH = 0.16, 0.2, 0.76
_ANSWER = PICTURE - _METHOD_WIDTH


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one method answered."""

    method: str
    answer: str
    right: bool


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its picture (None: no file), its most common human answer, and the predictions."""

    image: Path | None
    question: str
    truth: str
    predictions: tuple[Prediction, ...]


def choose_examples(
    split: Split, predictions: Mapping[str, Mapping[int, str]], *, count: int = 8, seed: int = 0
) -> list[Example]:
    """Draw questions at random: as many question types as can be, each picture once.

    Questions on which the methods give different answers come first, since where all agree nothing is compared. Who is
    right plays no part.

    Args:
        split: the questions, with annotations and images.
        predictions: method -> its answers by question id, in the order they are to be shown.
        count: how many; fewer where the split has fewer.
        seed: of the draw.
    """
    annotations = split.annotations or {}
    known = [q for q in split.questions if all(q.id in answers for answers in predictions.values())]
    known = [q for q in known if q.id in annotations]
    Random(seed).shuffle(known)

    def agree(question: Question) -> bool:
        return len({answers[question.id] for answers in predictions.values()}) == 1

    chosen: list[Question] = []
    types: set[str] = set()
    images: set[int] = set()
    # Four sweeps, from the most telling questions to the least.
    for agreed, any_type in ((False, False), (False, True), (True, False), (True, True)):
        for question in known:
            kind = annotations[question.id].question_type
            if len(chosen) == count or question.image_id in images or agree(question) != agreed:
                continue
            if any_type or kind not in types:
                chosen.append(question)
                types.add(kind)
                images.add(question.image_id)
    return [_example(split, question, predictions) for question in chosen]


def _example(split: Split, question: Question, predictions: Mapping[str, Mapping[int, str]]) -> Example:
    assert split.annotations is not None
    annotation = split.annotations[question.id]
    told = []
    for method, answers in predictions.items():
        answer = answers[question.id]
        told.append(Prediction(method, answer, score_answer(answer, annotation) >= RIGHT_SCORE))
    return Example(split.image_path(question.image_id), question.text, annotation.answer, tuple(told))


def example_panel(examples: Sequence[Example], path: Path, *, columns: int = COLUMNS, note: str | None = None) -> None:
    """Write the PNG.

    Args:
        examples: at least one.
        path: where to; its folder exists.
        columns: pictures in a row.
        note: one line below, in small type.

    Raises:
        ValueError: no examples.
    """
    if not examples:
        raise ValueError("a panel needs at least one example")
    columns = min(columns, len(examples))
    rows = [examples[start : start + columns] for start in range(0, len(examples), columns)]
    asked = [[wrapped(example.question, PICTURE) for example in row] for row in rows]
    # Within a row the answers stand on one line, below its longest question.
    heads = [max(map(len, row)) for row in asked]
    tails = [1 + max(len(example.predictions) for example in row) for row in rows]
    heights = [PICTURE + 0.1 + (h + t) * LINE + _ROW_GAP for h, t in zip(heads, tails, strict=True)]
    foot = 0.26 if note else 0.0
    width, height = columns * COLUMN_WIDTH + _EDGE, sum(heights) + _EDGE - _ROW_GAP + 0.1 + foot
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    top = height - _EDGE
    for row, questions, head, tall in zip(rows, asked, heads, heights, strict=True):
        for column, (example, question) in enumerate(zip(row, questions, strict=True)):
            left = _EDGE + column * COLUMN_WIDTH
            box = (left / width, (top - PICTURE) / height, PICTURE / width, PICTURE / height)
            _picture(figure, example.image, box)
            _words(figure, example, question, left, top - PICTURE - 0.1, head)
        top -= tall
    if note:
        say(figure, _EDGE, 0.1 + 0.14, note, NOTE)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": "umecache"})
    write_bytes(path, out.getvalue())


def _picture(figure: Figure, path: Path | None, box: tuple[float, float, float, float]) -> None:
    axes = figure.add_axes(box)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color="#C8C8C8", linewidth=0.8)
    pixels = _pixels(path)
    if pixels is None:
        axes.set_facecolor("#F2F2F2")
        axes.text(0.5, 0.5, "no image", ha="center", va="center", color=FAINT, fontsize=9, transform=axes.transAxes)
    else:
        # The whole picture in its own proportions, on a square ground.
        axes.imshow(pixels, aspect="equal", interpolation="bilinear")
        high, wide = pixels.shape[:2]
        side = max(high, wide)
        axes.set_xlim((wide - side) / 2 - 0.5, (wide + side) / 2 - 0.5)
        axes.set_ylim((high + side) / 2 - 0.5, (high - side) / 2 - 0.5)


def _pixels(path: Path | None) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None:
    """RGB pixels, upright, at most 512 of a side; None where the file is missing or no image."""
    image = opened(path)
    return None if image is None else np.asarray(within(image, 512))


def _words(figure: Figure, example: Example, question: list[str], left: float, top: float, head: int) -> None:
    """Question, true answer and predictions under a picture; `left` and `top` in inches, `head` lines of question."""
    for number, line in enumerate(question):
        say(figure, left, top - number * LINE, line, QUESTION)
    top -= head * LINE
    answers = left + _METHOD_WIDTH
    say(figure, left, top, "answer", METHOD)
    say(figure, answers, top, cut(example.truth, TRUTH, _ANSWER), TRUTH)
    for prediction in example.predictions:
        top -= LINE
        say(figure, left, top, cut(prediction.method, METHOD, _METHOD_WIDTH - 0.05), METHOD)
        style = RIGHT if prediction.right else WRONG
        said = say(figure, answers, top, cut(prediction.answer, style, _ANSWER), style)
        if not prediction.right:
            strike(figure, said)
