"""The figures of a report, drawn once: inline SVG that follows the page's colours, and SVG, PDF and PNG files.

    figure = accuracy_figure(document)
    inline_svg(figure)                                   # for HTML: colours are the page's variables
    save(figure, folder, "accuracy")                     # accuracy.svg, accuracy.pdf, accuracy.png

Only matplotlib's objects are used, so nothing global changes. Names come from data: a dollar sign is no mathematics.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from umecache.analysis.plot import CONTROL, DPI, FAINT, FUSION, INK, WIDTH
from umecache.analysis.sections import counted, labels
from umecache.analysis.table import is_control
from umecache.analysis.tables import escape
from umecache.data.files import write_bytes

GRID, PAPER, ALERT = "#E6E6E6", "#FFFFFF", "#D55E00"
_PAGE = {INK: "ink", FAINT: "soft", GRID: "line", PAPER: "paper", FUSION: "blue", CONTROL: "grey", ALERT: "alert"}
# Okabe and Ito's colours, but for two that would be like the first two as dark pages show these; then dashed.
_CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#C8A200", "#8A6BD1", "#8C8C8C")
_STYLES = ("-", "--", ":")
_FEW, _NAMED = 12, 7  # rows that can all be told apart; else so many of them are named
_BETWEEN = "  ·  "
# Heterogeneity: what is shown, and where no difference is.
_UNLIKE = (("gap", "gap", 0), ("cka", "CKA", None), ("probe", "probe (%)", 50), ("rank", "eff. rank", None),
           ("spread", "spread", None))  # fmt: skip
_CLOCK = 0.01  # seconds are kept to two decimals; the axis is logarithmic


def accuracy_figure(document: Mapping[str, Any]) -> Figure:
    """Every row's accuracy with its interval, its seeds as rings; dashed, what needs no training."""
    rows = document["rows"]
    figure, [axes] = canvas(1.25 + _tall(len(rows)))
    for place, row in enumerate(rows):
        colour = CONTROL if is_control(row["method"]) else FUSION
        if row.get("interval"):
            axes.plot(row["interval"], [place, place], color=colour, linewidth=4, alpha=0.35, solid_capstyle="butt")
        seeds = [seed["overall"] for seed in row["seeds"]]
        axes.plot(seeds, [place] * len(seeds), "o", ms=4.5, mfc="none", mec=colour, mew=0.9)
        axes.plot([row["mean"]], [place], "|", ms=13, color=colour, mew=2.2)
    for name, style in (("majority", ":"), ("majority_per_question", "--")):
        if isinstance(value := (document.get("baselines") or {}).get(name), int | float):
            words, left = (
                ("one answer\nalways", False) if name == "majority" else ("usual answer\nto the wording", True)
            )
            axes.axvline(value, color=ALERT, linestyle=style, linewidth=1.1, zorder=0)
            axes.annotate(
                words, (value, 1), xycoords=("data", "axes fraction"), xytext=(2 if left else -2, 3), fontsize=7.5,
                textcoords="offset points", color=ALERT, va="bottom", ha="left" if left else "right", linespacing=1.0,
            )  # fmt: skip
    _names(axes, labels(document))
    axes.set_xlabel("accuracy (%)", color=INK, fontsize=9)
    return figure


def differences_figure(document: Mapping[str, Any]) -> Figure | None:
    """Paired differences to the baseline; filled where the corrected p-value is below 0.05."""
    named = [
        (name, row["difference"])
        for name, row in zip(labels(document), document["rows"], strict=True)
        if row.get("difference") and not is_control(row["method"])
    ]
    if not named:
        return None
    figure, [axes] = canvas(1.0 + _tall(len(named)))
    axes.axvline(0, color=INK, linewidth=1)
    for place, (_, told) in enumerate(named):
        sure = told["p_holm"] < 0.05
        axes.plot([told["low"], told["high"]], [place, place], color=FUSION, linewidth=2, solid_capstyle="butt")
        axes.plot([told["mean"]], [place], "o", ms=7, mec=FUSION, mfc=FUSION if sure else PAPER, mew=1.6)
    _names(axes, [name for name, _ in named])
    axes.set_xlabel(f"points above {_plain(document['statistics']['baseline'])}", color=INK, fontsize=9)
    return figure


def cost_figure(document: Mapping[str, Any]) -> Figure:
    """Accuracy against time, parameters and, where token counts are known, memory; a line through what is worth it.

    Of many rows only those are numbered that no other beats at the same cost or less.
    """
    rows, named = document["rows"], labels(document)
    kinds = [
        ("s to train one head", [max(row["seconds"], _CLOCK) / len(row["seeds"]) for row in rows]),
        ("parameters", [row["parameters"] for row in rows]),
    ]
    memory = [counted(document, row) for row in rows]
    if all(memory):
        batch = document["asked"]["batch_size"]
        kinds.append(("MB kept per batch", [4e-6 * each.memory * batch for each in memory]))
    means = [row["mean"] for row in rows]
    fronts = [worth_it(values, means) for _, values in kinds]
    shown = range(len(rows)) if len(rows) <= _FEW else sorted(set().union(*fronts))
    figure, grid = canvas(3.1, len(kinds), sharey=True)
    for axes, (words, values), front in zip(grid, kinds, fronts, strict=True):
        axes.plot([values[at] for at in front], [means[at] for at in front], color=FAINT, linewidth=1, zorder=1)
        for place, (value, mean) in enumerate(zip(values, means, strict=True)):
            if place not in shown:
                axes.plot([value], [mean], "o", ms=4, color=CONTROL, mew=0, zorder=2)
                continue
            colour = line_style(list(shown).index(place))["color"]
            axes.plot([value], [mean], "o", ms=6.5, color=colour, mec=PAPER, mew=0.8, zorder=3)
            if len(rows) <= _FEW or place in front:
                axes.annotate(
                    str(place + 1), (value, mean), xytext=(4, 4), textcoords="offset points", fontsize=8, color=INK
                )
        axes.set_xscale("log")
        axes.margins(0.16)
        span = max(values) / min(values)
        ticks = LogLocator(subs=(1.0,) if span > 30 else (1.0, 2.0, 5.0)) if span > 5 else MaxNLocator(3)
        axes.xaxis.set_major_locator(ticks)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axes.set_xlabel(words, color=INK, fontsize=9)
        axes.grid(color=GRID, linewidth=0.8)
    grid[0].set_ylabel("accuracy (%)", color=INK, fontsize=9)
    keys = _BETWEEN.join(f"{place + 1} {_plain(named[place])}" for place in shown)
    figure.supxlabel(_folded(keys), fontsize=8, color=INK, ha="left", x=0.02)
    return figure


def worth_it(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """Positions of the entries that none of the same cost or less beats, the cheapest first."""
    front: list[int] = []
    for place in sorted(range(len(costs)), key=lambda at: (costs[at], -scores[at])):
        if not front or scores[place] > scores[front[-1]]:
            front.append(place)
    return front


def curves_figure(histories: Sequence[tuple[str, Sequence[Mapping[str, float]]]]) -> Figure | None:
    """Loss per epoch, mean over seeds, of each row; held-out accuracy beside it where there is one.

    Of many rows the first few are named, the others are thin lines.

    Args:
        histories: (name, epochs with `epoch`, `loss` and perhaps `held_out`), the best rows first.
    """
    if not any(len(lines) > 1 for _, lines in histories):
        return None
    held = any("held_out" in line for _, lines in histories for line in lines)
    figure, grid = canvas(3.3, 2 if held else 1)
    for axes, key in zip(grid, ("loss", "held_out"), strict=False):
        for place, (name, lines) in enumerate(histories):
            known = [line for line in lines if key in line]
            epochs, values = [line["epoch"] for line in known], [line[key] for line in known]
            if len(histories) <= _FEW or place < _NAMED:
                axes.plot(epochs, values, label=_plain(name), linewidth=1.5, zorder=3, **line_style(place))
            else:
                label = f"{len(histories) - _NAMED} others" if place == _NAMED else None
                axes.plot(epochs, values, label=label, linewidth=0.7, color=CONTROL, alpha=0.7, zorder=2)
        axes.set_xlabel("epoch", color=INK, fontsize=9)
        axes.set_ylabel("training loss" if key == "loss" else "held-out accuracy (%)", color=INK, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color=GRID, linewidth=0.8)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8, labelcolor=INK)
    return figure


def tokens_figure(document: Mapping[str, Any]) -> Figure | None:
    """How unlike the modalities' tokens are: before the joint stage and behind it, with intervals over seeds."""
    told = [
        (name, row)
        for name, row in zip(labels(document), (document.get("heterogeneity") or {}).get("rows") or (), strict=False)
        if row["before"] and any(row["before"].get(key) is not None for key, _, _ in _UNLIKE[:3])
    ]
    if not told:
        return None
    figure, grid = canvas(0.95 + 0.25 * len(told), len(_UNLIKE), sharey=True)
    for number, (axes, (key, words, at)) in enumerate(zip(grid, _UNLIKE, strict=True)):
        for place, (_, row) in enumerate(told):
            ends = {stage: row[stage][key] for stage in ("before", "after") if (row[stage] or {}).get(key) is not None}
            axes.plot(list(ends.values()), [place] * len(ends), color=GRID, linewidth=1.2, zorder=1)
            for stage, value in ends.items():
                colour = CONTROL if stage == "before" else FUSION
                if between := ((row.get("interval") or {}).get(stage) or {}).get(key):
                    axes.plot(between, [place, place], color=colour, linewidth=4, alpha=0.35, solid_capstyle="butt")
                axes.plot([value], [place], "o", ms=5, color=colour, mfc=PAPER if stage == "before" else colour)
        if at is not None:
            axes.axvline(at, color=FAINT, linestyle=":", linewidth=1, zorder=0)
        _names(axes, [name for name, _ in told])
        axes.tick_params(axis="y", labelleft=number == 0)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.set_title(words, fontsize=9, color=INK)
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write NAME.svg, NAME.pdf and NAME.png; equal figures give equal files."""
    for kind, facts in (("svg", {"Date": None}), ("pdf", {"CreationDate": None}), ("png", {"Software": "umecache"})):
        with matplotlib.rc_context({"svg.hashsalt": "umecache", "svg.fonttype": "path"}):
            out = io.BytesIO()
            figure.savefig(out, format=kind, metadata=facts, facecolor=PAPER)
        write_bytes(folder / f"{name}.{kind}", out.getvalue())


def inline_svg(figure: Figure, title: str) -> str:
    """The figure as an `<svg>` element whose text is text and whose colours are CSS variables of the page."""
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "umecache", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:xmlns(?::xlink)?|version)="[^"]*"', "", svg)
    for colour, name in _PAGE.items():
        svg = re.sub(rf"(?<=[: ]){colour}\b", f"var(--{name})", svg, flags=re.IGNORECASE)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)


def canvas(height: float, columns: int = 1, *, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """An empty figure as wide as a text column, `height` inches high, and its axes side by side."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    grid = list(figure.subplots(1, columns, squeeze=False, sharey=sharey)[0])
    for axes in grid:
        axes.set_facecolor("none")
        axes.tick_params(color=FAINT, labelcolor=INK, labelsize=8.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.set_axisbelow(True)
    return figure, grid


def _tall(rows: int) -> float:
    """Inches for so many rows of a figure; many stand closer, so that they fit a page."""
    return (0.34 if rows <= _FEW else 0.26) * rows


def _names(axes: Axes, named: Sequence[str]) -> None:
    axes.set_yticks(range(len(named)), labels=[_plain(name) for name in named], fontsize=9, color=INK)
    axes.set_ylim(len(named) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)


def line_style(place: int) -> dict[str, Any]:
    """Colour and dashes of the n-th line; no two of the first 21 are alike."""
    return {"color": _CYCLE[place % len(_CYCLE)], "linestyle": _STYLES[place // len(_CYCLE) % len(_STYLES)]}


def _short(value: float) -> str:
    return f"{value:g}" if value < 1000 else f"{value / 1e3:g} k" if value < 1e6 else f"{value / 1e6:g} M"


def _plain(text: str) -> str:
    return text.replace("\\", "\\\\").replace("$", r"\$") if "$" in text else text


def _folded(words: str, width: int = 105) -> str:
    lines = [""]
    for word in words.split(_BETWEEN):
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += (_BETWEEN if lines[-1] else "") + word
    return "\n".join(lines)
