"""Heat maps over pictures: where they lie, what is struck through, nothing cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from umecache.analysis.heat_panel import PAGE, PAPER, Cell, Column, Row, covered, heat_panel, overlay

GREY = np.full((60, 80, 3), 128, np.uint8)
WHOLE = (0.0, 0.0, 1.0, 1.0)


def cell(**changed: Any) -> Cell:
    facts: dict[str, Any] = {"heat": np.eye(2), "crop": None, "answer": "red", "right": True, "words": (("what", 1.0),)}
    return Cell(**{**facts, **changed})


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "p.png"
    Image.new("RGB", (80, 60), (40, 90, 160)).save(path)
    return path


def drawn(figure: Any, path: Path) -> np.ndarray[Any, Any]:
    figure.savefig(path)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def redness(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return pixels[..., 0].astype(int) - pixels[..., 2].astype(int)


@pytest.mark.parametrize(("high", "wide"), [(2, 2), (3, 4), (1, 5)])
def test_heat_lies_where_its_token_does(high: int, wide: int) -> None:
    for row in range(high):
        for column in range(wide):
            heat = np.zeros((high, wide))
            heat[row, column] = 0.2
            red = redness(overlay(GREY, heat, WHOLE))
            y, x = np.unravel_index(red.argmax(), red.shape)
            assert int(y * high / 60) == row and int(x * wide / 80) == column
            assert red.max() > 60


def test_scale_is_each_pictures_own_and_nothing_is_grey() -> None:
    heat = np.random.default_rng(0).random((3, 3))
    assert np.array_equal(overlay(GREY, heat, WHOLE), overlay(GREY, 50 * heat, WHOLE))
    for nothing in (None, np.zeros((3, 3))):
        assert np.ptp(overlay(GREY, nothing, WHOLE)) == 0


def test_a_crop_covers_its_part_only() -> None:
    assert covered(None, (60, 80)) == WHOLE
    assert covered(("squash", 0.5), (60, 80)) == (0.25, 0.25, 0.75, 0.75)
    left, top, right, bottom = covered(("center", 0.8), (60, 80))
    assert (right - left) * 80 == pytest.approx(48) and (bottom - top) * 60 == pytest.approx(48)
    red = redness(overlay(GREY, np.ones((2, 2)), (left, top, right, bottom)))
    assert (red[:5] == 0).all() and (red[:, :15] == 0).all() and (red[10:50, 20:60] > 60).all()


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("rows", [1, 5])
def test_nothing_is_cut_off(columns: int, rows: int, picture: Path, tmp_path: Path) -> None:
    asked = Column(picture, "What is the very long question about the strawberry cheesecake behind the $5 bill?", "red")
    cells = (cell(words=tuple((word, 0.5) for word in ("quite", "some", "words") * 3)),) * columns
    lines = ("Grad-CAM", "accuracy 31.2", "a line that is much too long for the little room there is")
    figure = heat_panel([asked] * columns, [Row("a-rather-long-method", lines, cells)] * rows, note="A note. " * 30)
    pixels = drawn(figure, tmp_path / "f.png")
    for edge in (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]):
        assert (edge == 255).all()
    wide, high = figure.get_size_inches()
    assert high < 1.3 * PAGE and wide < 7.5


def test_wrong_answers_are_struck_through(picture: Path, tmp_path: Path) -> None:
    column = Column(picture, "Why?", "red")
    struck = [
        len(heat_panel([column], [Row("m", (), (cell(right=right, words=()),))]).artists)
        for right in (True, False, None)
    ]
    assert struck == [0, 1, 0]


def test_tokens_are_shaded_by_what_they_count(picture: Path) -> None:
    figure = heat_panel([Column(picture, "Why?", None)], [Row("m", (), (cell(words=(("a", 0.0), ("b", 2.0))),))])
    none, most = (patch.get_facecolor() for patch in figure.artists)  # type: ignore[attr-defined]
    assert none[3] == 0 and most[3] == pytest.approx(0.9)


@pytest.mark.parametrize("broken", [None, "missing.jpg", "text.jpg"])
def test_a_missing_picture_is_no_crash(broken: str | None, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    columns = [Column(None if broken is None else tmp_path / broken, "Why?", None), Column(picture, "Who?", None)]
    figure = heat_panel(columns, [Row("m", (), (cell(), cell(heat=None, words=(), below="nothing")))])
    assert drawn(figure, tmp_path / "f.png").shape[2] == 3


def test_a_picture_of_its_own_for_each_column(picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    Image.new("RGB", (30, 60), (250, 250, 250)).save(other)
    rows = [Row("m", (), (cell(), cell()))]
    shared = heat_panel([Column(picture, "a", None)] * 2, rows)
    apart = heat_panel([Column(picture, "a", None), Column(other, "b", None)], rows)
    assert len(apart.axes) == len(shared.axes) + 1


def test_rows_must_fit() -> None:
    with pytest.raises(ValueError, match="a cell for each"):
        heat_panel([Column(None, "a", None)], [Row("m", (), ())])


@pytest.mark.parametrize("count", [1, 3, 6])
def test_a_panel_fits_a_page(picture: Path, count: int) -> None:
    """With the words of a question of ten tokens, and the lines that `explain` writes."""
    asked = "what colour is the large shape here ?"
    words = tuple((word, 1.0) for word in ("[CLS]", *asked.split(), "[SEP]"))
    full = cell(words=words, remark="0.55", heat=np.eye(4))
    rows = [
        Row(f"method {k}", ("Grad-CAM", "accuracy 41.0", "del", "random", "gain"), (full,) * 3) for k in range(count)
    ]
    columns = [Column(picture, asked, "red")] * 3
    wide, high = heat_panel(columns, rows, note="Some words on what all of this is. " * 12).get_size_inches()
    assert high <= PAGE and wide <= PAPER, (wide, high)
