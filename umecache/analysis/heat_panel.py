"""Heat maps over pictures: heads in rows, questions in columns, each head's answer below, wrong ones struck through.

    figure = heat_panel([Column(...), ...], [Row("ume", "Grad-CAM", (Cell(...), ...)), ...], note="...")

The layout is that of the thesis that proposed UME. A map is stretched over the part of the picture that its grid covers
(bilinear, as Grad-CAM does), each on a scale of its own from nothing to its largest value. Where a map is nothing, the
picture is grey. Below the answer stand the question's tokens, the darker the more they count.

Shapes: H x W token grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from umecache.analysis.lettering import (
    FAINT,
    INK,
    LINE,
    METHOD,
    NOTE,
    QUESTION,
    RIGHT,
    TRUTH,
    WRONG,
    cut,
    inches,
    say,
    strike,
    wrapped,
)
from umecache.analysis.pictures import opened

DPI = 160
PAGE, PAPER = 9.4, 7.2  # inches of a page: pictures shrink until all of it fits its height, but not to nothing
EDGE, LABEL, GAP = 0.16, 1.1, 0.16
WIDEST, NARROWEST, LOWEST = 1.8, 1.2, 0.5  # a picture
COLOURS = "YlOrRd"
_SIDE = 384  # pixels of a picture's longest side
_WORD: dict[str, Any] = {"fontsize": 6.6, "color": INK}
_WORD_LINE, _SPACE = 0.135, 0.035
_PLAIN: dict[str, Any] = {"fontsize": 8.6, "color": INK}
_SMALL: dict[str, Any] = {"fontsize": 6.8, "color": FAINT}
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Column:
    """One question.

    Attributes:
        image: its picture; None: no file.
        truth: its most common human answer; None: not known.
    """

    image: Path | None
    question: str
    truth: str | None


@dataclass(frozen=True, slots=True)
class Cell:
    """What one head makes of one question.

    Attributes:
        heat: its map [H, W], at least 0; None: it has none.
        crop: how the encoder's picture was cut ("center", "squash") and what share of its side was kept; None: whole.
        answer: what it answers.
        right: whether that scores; None: not known.
        remark: a few words beside the answer.
        words: the question's tokens with their values, at least 0.
        below: a line in small type.
    """

    heat: Floats | None
    crop: tuple[str, float] | None
    answer: str
    right: bool | None
    remark: str = ""
    words: tuple[tuple[str, float], ...] = ()
    below: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One head: its name, lines in small type below it, and its cells, one per column."""

    name: str
    lines: tuple[str, ...]
    cells: tuple[Cell, ...]


def heat_panel(columns: Sequence[Column], rows: Sequence[Row], *, note: str = "") -> Figure:
    """Draw the panel.

    Args:
        columns: at least one.
        rows: at least one, each with a cell per column.
        note: below, in small type.

    Raises:
        ValueError: nothing to draw, or rows of another length.
    """
    if not columns or not rows or any(len(row.cells) != len(columns) for row in rows):
        raise ValueError("a panel needs questions, and a cell for each in every row")
    pictures = [_pixels(column.image) for column in columns]
    shape = max((0.75 if p is None else p.shape[0] / p.shape[1]) for p in pictures)
    shape = min(max(shape, 0.4), 1.3)  # height over width of the frames
    plan = _Plan(columns, rows, shape, note)
    figure = Figure(figsize=plan.size, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    top = plan.size[1] - EDGE
    for place, (column, asked) in enumerate(zip(columns, plan.asked, strict=True)):
        for number, line in enumerate(asked):
            say(figure, plan.left(place), top - number * LINE, line, QUESTION)
        if column.truth is not None:
            below = top - plan.head * LINE
            said = say(figure, plan.left(place), below, "answer ", METHOD)
            start = inches(said.get_text() + "n", METHOD)
            say(figure, plan.left(place) + start, below, cut(column.truth, TRUTH, plan.wide - start), TRUTH)
    if plan.shared:
        _show(figure, (EDGE, top, LABEL - GAP, plan.first), pictures[0])
    top -= plan.first + 0.1
    if not plan.shared:
        for place, pixels in enumerate(pictures):
            _show(figure, (plan.left(place), top, plan.wide, plan.high), pixels)
        top -= plan.high + GAP
    for row, tail in zip(rows, plan.tails, strict=True):
        say(figure, EDGE, top, cut(row.name, QUESTION, LABEL - 0.08), QUESTION)
        for number, line in enumerate(row.lines):
            say(figure, EDGE, top - LINE * (1.05 + 0.8 * number), cut(line, _SMALL, LABEL - 0.06), _SMALL)
        for place, (cell, pixels) in enumerate(zip(row.cells, pictures, strict=True)):
            _show(figure, (plan.left(place), top, plan.wide, plan.high), pixels, cell)
            _tell(figure, plan, cell, plan.left(place), top - plan.high - 0.06)
        top -= max(plan.high + 0.06 + tail, _beside(row)) + GAP
    _key(figure, plan)
    for number, line in enumerate(plan.note):
        say(figure, EDGE, EDGE + 0.02 + LINE * 0.8 * (len(plan.note) - number), line, NOTE)
    return figure


class _Plan:
    """Sizes in inches, from the widest pictures that let the panel fit a page."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Row], shape: float, note: str) -> None:
        # One picture for all columns stands in the corner; else there is a row of them.
        self.shared = len({column.image for column in columns}) == 1
        for self.wide, self.high in _frames(len(columns), shape):
            self.asked = [wrapped(column.question, self.wide, most=4) for column in columns]
            self.head = max(map(len, self.asked))
            self.first = max((LABEL - GAP) * shape if self.shared else 0, (self.head + 1) * LINE)
            self.tails = [max(_below(cell, self.wide) for cell in row.cells) for row in rows]
            width = EDGE + LABEL + len(columns) * (self.wide + GAP) - GAP + EDGE
            self.note = wrapped(note, width - 2 * EDGE, style=NOTE, most=7) if note else []
            self.foot = 0.34 + 0.8 * LINE * len(self.note)
            pictures = self.first + 0.1 + (0 if self.shared else self.high + GAP)
            pictures += sum(
                max(self.high + 0.06 + tail, _beside(row)) for row, tail in zip(rows, self.tails, strict=True)
            )
            self.size = (width, EDGE + pictures + len(rows) * GAP + self.foot + 0.04)
            if self.size[1] <= PAGE:
                break

    def left(self, place: int) -> float:
        return EDGE + LABEL + place * (self.wide + GAP)


def _frames(columns: int, shape: float) -> Iterator[tuple[float, float]]:
    """Widths and heights of a picture's frame, the best first.

    Smaller pictures make less room for words, which then take more lines. So where the narrowest do not do, frames are
    as wide as the page lets them be, and only lower: the picture stands at their left.
    """
    for wide in np.arange(WIDEST, NARROWEST - 0.01, -0.1):
        yield float(wide), float(wide) * shape
    wide = min(WIDEST, max(NARROWEST, (PAPER - 2 * EDGE - LABEL + GAP) / columns - GAP))
    for high in np.arange(NARROWEST * shape, LOWEST - 0.01, -0.05):
        yield wide, float(high)


def _below(cell: Cell, wide: float) -> float:
    """The room that a cell's words take."""
    return LINE + (0.8 * LINE if cell.below else 0) + len(_lines(cell.words, wide)) * _WORD_LINE


def _beside(row: Row) -> float:
    """The room that a row's name and lines take."""
    return LINE * (1.1 + 0.8 * len(row.lines))


def _show(
    figure: Figure,
    frame: tuple[float, float, float, float],
    pixels: NDArray[np.uint8] | None,
    cell: Cell | None = None,
) -> None:
    """A picture in its frame (left, top, width, height in inches), with the cell's map over it."""
    wide, high = figure.get_size_inches()
    left, top, across, down = frame
    axes = figure.add_axes((left / wide, (top - down) / high, across / wide, down / high))
    axes.set_axis_off()
    if pixels is None:
        axes.add_patch(Rectangle((0, 0), 1, 1, facecolor="#F2F2F2", transform=axes.transAxes))
        axes.text(0.5, 0.5, "no image", ha="center", va="center", color=FAINT, fontsize=9, transform=axes.transAxes)
        return
    axes.imshow(
        pixels if cell is None else overlay(pixels, cell.heat, covered(cell.crop, pixels.shape[:2])),
        interpolation="bilinear",
    )
    rows, columns = pixels.shape[:2]
    # The whole picture, as large as its frame lets it be, against the frame's upper left corner.
    side = max(columns, rows * across / down)
    axes.set_xlim(-0.5, side - 0.5)
    axes.set_ylim(side * down / across - 0.5, -0.5)


def overlay(
    pixels: NDArray[np.uint8], heat: Floats | None, box: tuple[float, float, float, float]
) -> NDArray[np.uint8]:
    """A picture with a map over the part `box` of it; grey where the map is nothing."""
    grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    ground = (0.25 * pixels + 0.75 * grey[..., None]) * 0.72 + 255 * 0.28
    if heat is None or not (largest := float(heat.max())) > 0:
        return ground.round().astype(np.uint8)
    high, wide = pixels.shape[:2]
    left, top, right, bottom = (round(part * side) for part, side in zip(box, (wide, high, wide, high), strict=True))
    small = Image.fromarray((heat / largest).astype(np.float32))
    part = np.asarray(small.resize((max(right - left, 1), max(bottom - top, 1)), Image.Resampling.BILINEAR))
    value = np.zeros((high, wide), np.float32)
    value[top:bottom, left:right] = part[: bottom - top, : right - left]
    colour = matplotlib.colormaps[COLOURS](0.1 + 0.9 * value)[..., :3] * 255
    strength = (0.78 * np.clip(value, 0, 1) ** 0.85)[..., None]
    shown = (1 - strength) * ground + strength * colour
    return np.asarray(shown.round().clip(0, 255).astype(np.uint8))


def covered(crop: tuple[str, float] | None, shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """The part of a picture that its grid covers: left, top, right, bottom, each from 0 to 1.

    Args:
        crop: as of a `Cell`; "center" keeps a square in the middle, a share of the shorter side.
        shape: height and width of the picture.
    """
    if crop is None:
        return 0.0, 0.0, 1.0, 1.0
    mode, share = crop
    high, wide = shape
    across, down = (share, share) if mode == "squash" else (share * min(shape) / wide, share * min(shape) / high)
    return (1 - across) / 2, (1 - down) / 2, (1 + across) / 2, (1 + down) / 2


def _tell(figure: Figure, plan: _Plan, cell: Cell, left: float, top: float) -> None:
    """Answer, remark, the line in small type, the question's tokens."""
    style = _PLAIN if cell.right is None else RIGHT if cell.right else WRONG
    room = plan.wide - (inches(cell.remark, _SMALL) + 0.08 if cell.remark else 0)
    said = say(figure, left, top, cut(cell.answer, style, room), style)
    if cell.right is False:
        strike(figure, said)
    if cell.remark:
        say(figure, left + plan.wide - inches(cell.remark, _SMALL), top - 0.02, cell.remark, _SMALL)
    top -= LINE
    if cell.below:
        say(figure, left, top, cut(cell.below, _SMALL, plan.wide), _SMALL)
        top -= 0.8 * LINE
    largest = max((value for _, value in cell.words), default=0.0) or 1.0
    wide, high = plan.size
    for number, line in enumerate(_lines(cell.words, plan.wide)):
        x, y = left, top - number * _WORD_LINE
        for word, value in line:
            room = inches(word, _WORD)
            share = value / largest
            corner = ((x - 0.012) / wide, (y - _WORD_LINE + 0.022) / high)
            size = (room + 0.024) / wide, (_WORD_LINE - 0.014) / high
            colour = (*matplotlib.colormaps["YlOrBr"](0.75 * share)[:3], 0.9 * share)
            figure.add_artist(Rectangle(corner, *size, facecolor=colour, transform=figure.transFigure, linewidth=0))
            say(figure, x, y - 0.012, word, _WORD)
            x += room + _SPACE


def _lines(words: Sequence[tuple[str, float]], wide: float) -> list[list[tuple[str, float]]]:
    """Tokens in lines of at most `wide` inches."""
    lines: list[list[tuple[str, float]]] = []
    x = wide + 1
    for word, value in words:
        short = cut(word, _WORD, wide)
        room = inches(short, _WORD)
        if x + room > wide:
            lines.append([])
            x = 0.0
        lines[-1].append((short, value))
        x += room + _SPACE
    return lines


def _key(figure: Figure, plan: _Plan) -> None:
    """The scale of the maps."""
    wide, high = plan.size
    y = EDGE + 0.8 * LINE * len(plan.note) + 0.08
    axes = figure.add_axes((EDGE / wide, y / high, 0.7 / wide, 0.07 / high))
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None]
    axes.imshow(overlay(np.full((8, 128, 3), 190, np.uint8), ramp, (0, 0, 1, 1)), aspect="auto")
    axes.set_axis_off()
    say(figure, EDGE + 0.77, y + 0.1, "none to most, picture by picture", _SMALL)


def _pixels(path: Path | None) -> NDArray[np.uint8] | None:
    """RGB pixels, upright, the longest side 384; small drawings keep their sharp edges. None: no image."""
    if (image := opened(path)) is None:
        return None
    scale = _SIDE / max(image.size)
    size = tuple(max(1, round(scale * side)) for side in image.size)
    kind = Image.Resampling.LANCZOS if scale <= 1.5 else Image.Resampling.NEAREST
    return np.asarray(image.resize((size[0], size[1]), kind))
