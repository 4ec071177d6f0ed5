"""The panel of examples: which questions are chosen, what counts as wrong, what is drawn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from umecache.analysis.lettering import RIGHT, WRONG, inches
from umecache.analysis.panel import (
    COLUMN_WIDTH,
    DPI,
    PICTURE,
    Example,
    Prediction,
    choose_examples,
    example_panel,
)
from umecache.data.dataset import Split, open_dataset
from umecache.data.sample import write_sample

Pixels = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return open_dataset(write_sample(tmp_path_factory.mktemp("sample"), images=60, splits=("val",))).split("val")


def drawn(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def near(pixels: Pixels, color: str, tolerance: int = 40) -> int:
    wanted = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
    return int((np.abs(pixels - wanted).max(-1) <= tolerance).sum())


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    Image.new("RGB", (60, 40), (250, 0, 0)).save(path)
    return path


def example(picture: Path | None, *, right: bool = True, **changed: Any) -> Example:
    facts = {"question": "What color is it?", "truth": "red", "predictions": (Prediction("ume", "red", right),)}
    return Example(picture, **{**facts, **changed})


# What is chosen


def test_who_is_right_is_decided_by_the_official_score(split: Split) -> None:
    assert split.annotations is not None
    truth = {q.id: split.annotations[q.id].answer for q in split.questions}
    absurd = dict.fromkeys(truth, "a giraffe")
    loud = {key: answer.upper() for key, answer in truth.items()}  # the official scorer takes no notice of case
    chosen = choose_examples(split, {"good": truth, "bad": absurd, "loud": loud}, count=8)
    assert len(chosen) == 8
    for each in chosen:
        assert [p.method for p in each.predictions] == ["good", "bad", "loud"]
        assert [p.right for p in each.predictions][:2] == [True, False]
        assert each.predictions[0].answer == each.truth
        assert each.image is not None and each.image.is_file()
    disputed = [e for e in chosen if not e.predictions[2].right]
    assert len(disputed) <= 3  # only where all ten people wrote the same, and nothing is normalised


def test_questions_differ_in_type_and_picture(split: Split) -> None:
    types = Counter(a.question_type for a in (split.annotations or {}).values())
    predictions = {"a": dict.fromkeys((q.id for q in split.questions), "yes")}
    chosen = choose_examples(split, predictions, count=len(types))
    asked = {q.text: (split.annotations or {})[q.id].question_type for q in split.questions}
    assert len({asked[e.question] for e in chosen}) == len(types)
    assert len({e.image for e in chosen}) == len(chosen)


def test_questions_on_which_methods_differ_come_first(split: Split) -> None:
    ids = [q.id for q in split.questions]
    first = dict.fromkeys(ids, "yes")
    second = {**first, ids[7]: "no", ids[90]: "no"}
    texts = {(split.image_path(q.image_id), q.text) for q in split.questions if q.id in (ids[7], ids[90])}
    for seed in range(3):
        chosen = choose_examples(split, {"a": first, "b": second}, count=4, seed=seed)
        assert {(e.image, e.question) for e in chosen[:2]} == texts
        assert len(chosen) == 4


def test_the_draw_follows_the_seed(split: Split) -> None:
    answers = {"a": dict.fromkeys((q.id for q in split.questions), "yes")}
    assert choose_examples(split, answers, seed=1) == choose_examples(split, answers, seed=1)
    assert choose_examples(split, answers, seed=1) != choose_examples(split, answers, seed=2)


def test_questions_without_an_answer_of_every_method_are_left_out(split: Split) -> None:
    ids = [q.id for q in split.questions]
    chosen = choose_examples(split, {"a": {ids[0]: "yes", ids[1]: "no"}, "b": {ids[0]: "yes"}})
    assert [e.question for e in chosen] == [split.questions[0].text]


# What is drawn


def test_wrong_predictions_are_struck_through_and_right_ones_are_not(picture: Path, tmp_path: Path) -> None:
    """A line as long as the word: far more pixels of its colour, in one row."""
    found = {}
    for right in (True, False):
        path = tmp_path / f"{right}.png"
        example_panel([example(picture, right=right, predictions=(Prediction("ume", "mmmmmm", right),))], path)
        pixels = drawn(path)
        style = RIGHT if right else WRONG
        wanted = [int(style["color"][start : start + 2], 16) for start in (1, 3, 5)]
        colored = np.abs(pixels - wanted).max(-1) <= 40
        found[right] = int(colored.sum(1).max())
        assert colored.any()
        other = (WRONG if right else RIGHT)["color"]
        assert near(pixels, other) == 0
    width = inches("mmmmmm", WRONG) * DPI
    assert found[False] >= width
    assert found[True] < 0.7 * width


def test_the_picture_is_shown_whole(picture: Path, tmp_path: Path) -> None:
    example_panel([example(picture)], tmp_path / "p.png")
    rows, columns = np.nonzero(np.abs(drawn(tmp_path / "p.png") - [250, 0, 0]).max(-1) < 20)
    wide, high = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert wide == pytest.approx(PICTURE * DPI, rel=0.03)
    assert wide / high == pytest.approx(60 / 40, rel=0.03)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_nothing_is_cut_off_and_nothing_overlaps(count: int, picture: Path, tmp_path: Path) -> None:
    long = example(
        picture,
        question="What is the very long question about the strawberry cheesecake and the $5 bill behind the window?",
        truth="a strawberry cheesecake with cream",
        predictions=(Prediction("a-rather-long-method-name", "a whole sentence as an answer", False),) * 3,
    )
    example_panel([long] * count, tmp_path / "p.png", note="A note.")
    pixels = drawn(tmp_path / "p.png")
    assert (pixels[:4] == 255).all() and (pixels[-4:] == 255).all()
    assert (pixels[:, :4] == 255).all() and (pixels[:, -4:] == 255).all()
    for column in range(1, min(count, 4)):
        # Between two columns there is a white lane.
        lane = round((0.16 + column * COLUMN_WIDTH - 0.05) * DPI)
        assert (pixels[:, lane - 2 : lane + 3] == 255).all()


def test_every_panel_has_its_question(picture: Path, tmp_path: Path) -> None:
    for question in ("", "Why?"):
        example_panel([example(picture, question=question)], tmp_path / f"{len(question)}.png")
    dark = [int((drawn(tmp_path / name).max(-1) < 90).sum()) for name in ("0.png", "4.png")]
    assert dark[1] > dark[0] + 50


@pytest.mark.parametrize("broken", [None, "missing.jpg", "text.jpg"])
def test_a_missing_or_broken_picture_is_no_crash(broken: str | None, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    example_panel([example(None if broken is None else tmp_path / broken)], tmp_path / "p.png")
    assert near(drawn(tmp_path / "p.png"), "#F2F2F2", 3) > 10_000


def test_no_examples(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        example_panel([], tmp_path / "p.png")
