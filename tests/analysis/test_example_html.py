"""Example pictures on the page: whole, upright, every text as text."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from tests.analysis.test_page import EVIL, Page
from tests.encoders.broken_images import stored_turned
from umecache.analysis.example_html import SHUFFLED, example_note, example_panels
from umecache.analysis.panel import Example, Prediction


def told(count: int) -> tuple[Prediction, ...]:
    return tuple(Prediction(f"m{k}", "no" if k % 3 else EVIL, bool(k % 3)) for k in range(count))


def test_few_rows_are_listed_one_by_one() -> None:
    page = Page(example_panels([Example(None, "who?", "no", told(3))], "Note."))
    assert page.open == [] and "no image" in page.words
    assert page.words.index("m0") < page.words.index(EVIL) < page.words.index("m1") < page.words.index("m2")


def test_many_rows_are_grouped_by_their_answer() -> None:
    text = example_panels([Example(None, "who?", "no", told(12))], "A <note>.")
    page = Page(text)
    assert (
        page.open == []
        and "A <note>." in page.words
        and EVIL in page.words
        and "m1, m2, m4, m5, m7, m8, m10, m11" in page.words
    )
    assert text.count('class="wrong"') == text.count('class="right"') == 1


def test_a_photograph_on_its_side_is_shown_upright(tmp_path: Path) -> None:
    (tmp_path / "turned.jpg").write_bytes(stored_turned(6))
    (tmp_path / "straight.jpg").write_bytes(stored_turned(1))
    shown = []
    for name in ("turned.jpg", "straight.jpg"):
        [address] = Page(example_panels([Example(tmp_path / name, "?", "a", told(1))], "Note.")).asked
        kind, data = address.split(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert not image.getexif()
            shown.append(np.asarray(image, np.int16))
    assert shown[0].shape == shown[1].shape
    assert np.abs(shown[0] - shown[1]).mean() < 8


def test_the_note_says_what_is_true_of_the_comparison() -> None:
    plain = example_note({"protocol": "official-2021", "asked": {"shuffle_images": False}})
    assert "other annotators" in plain and SHUFFLED not in plain
    labelled = example_note({"protocol": "exact", "asked": {"shuffle_images": True}})
    assert "annotators" not in labelled and "not the label" in labelled and SHUFFLED in labelled
