"""Words on a figure, laid out in inches: styles, lines that fit, lines struck through.

    said = say(figure, 0.2, 3.1, cut("a long answer", WRONG, 0.9), WRONG)
    strike(figure, said)

Whatever is written comes from data: a dollar sign starts no mathematics.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.textpath import TextPath

LINE = 0.172  # inches between two lines of text
MAX_LINES = 3  # of a question

INK, FAINT = "#222222", "#6B6B6B"
QUESTION: Mapping[str, Any] = {"fontsize": 8.6, "color": INK, "weight": "bold"}
TRUTH: Mapping[str, Any] = {"fontsize": 8.6, "color": INK, "weight": "bold"}
METHOD: Mapping[str, Any] = {"fontsize": 8.2, "color": FAINT}
RIGHT: Mapping[str, Any] = {"fontsize": 8.6, "color": "#00664D"}
WRONG: Mapping[str, Any] = {"fontsize": 8.6, "color": "#B54708"}
NOTE: Mapping[str, Any] = {"fontsize": 7.5, "color": FAINT}


def say(figure: Figure, left: float, top: float, words: str, style: Mapping[str, Any]) -> Text:
    """Write words whose upper left corner is `left` and `top` inches from the figure's lower left one."""
    wide, high = figure.get_size_inches()
    return figure.text(left / wide, top / high, words, va="top", ha="left", parse_math=False, **style)


def strike(figure: Figure, said: Text) -> None:
    """A line through a text, as long as it is drawn."""
    box = said.get_window_extent().transformed(figure.transFigure.inverted())
    y = box.y0 + 0.46 * (box.y1 - box.y0)  # through the small letters
    figure.add_artist(Line2D([box.x0 - 0.002, box.x1 + 0.002], [y, y], color=WRONG["color"], linewidth=1.3))


def inches(words: str, style: Mapping[str, Any]) -> float:
    """How wide a text is drawn."""
    return _width(words, style["fontsize"], style.get("weight", "normal")) if words.strip() else 0.0


@lru_cache(maxsize=1 << 12)  # layouts are tried at several sizes, with the same words
def _width(words: str, size: float, weight: str) -> float:
    shape = TextPath((0, 0), words, prop=FontProperties(size=size, weight=weight), usetex=False)
    return float(shape.get_extents().x1) / 72


def wrapped(words: str, room: float, *, style: Mapping[str, Any] = QUESTION, most: int = MAX_LINES) -> list[str]:
    """The text in lines of at most `room` inches, at most so many; at least one."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and inches(longer, style) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    if len(lines) > most:
        lines[most - 1 :] = [" ".join(lines[most - 1 :])]
    return [cut(line, style, room) for line in lines] if words.strip() else [""]


def cut(words: str, style: Mapping[str, Any], room: float) -> str:
    """The text in one line of at most `room` inches."""
    plain = " ".join(words.split()) or "(nothing)"
    if inches(plain, style) <= room:
        return plain
    kept = plain
    while kept and inches(kept + "...", style) > room:
        kept = kept[:-1].rstrip()
    return kept + "..."
