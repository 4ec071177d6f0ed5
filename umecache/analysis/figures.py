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
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from umecache.analysis.plot import CONTROL, DPI, FAINT, FUSION, INK, WIDTH
from umecache.analysis.sections import counted, labels
from umecache.analysis.table import is_control
from umecache.analysis.tables import escape
from umecache.fusion.cost import figures

GRID, PAPER, ALERT = "#E6E6E6", "#FFFFFF", "#D55E00"
_PAGE = {INK: "ink", FAINT: "soft", GRID: "line", PAPER: "paper", FUSION: "blue", CONTROL: "grey", ALERT: "alert"}
# Okabe and Ito's colours, then the same dashed.
_CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
_STYLES = ("-", "--", ":")
_CLOCK = 0.01  # seconds are kept to two decimals; the axis is logarithmic
_STORY = ("concat", "ume", "simple-pair")  # O(N D), O(N^2 D), O(N^2 D^2)


def accuracy_figure(document: Mapping[str, Any]) -> Figure:
    """Every row's accuracy with its interval, its seeds as rings; dashed, what needs no training."""
    rows = document["rows"]
    figure, [axes] = _canvas(1.25 + 0.34 * len(rows))
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
    figure, [axes] = _canvas(1.0 + 0.34 * len(named))
    axes.axvline(0, color=INK, linewidth=1)
    for place, (_, told) in enumerate(named):
        sure = told["p_holm"] < 0.05
        axes.plot([told["low"], told["high"]], [place, place], color=FUSION, linewidth=2, solid_capstyle="butt")
        axes.plot([told["mean"]], [place], "o", ms=7, mec=FUSION, mfc=FUSION if sure else PAPER, mew=1.6)
    _names(axes, [name for name, _ in named])
    axes.set_xlabel(f"points above {_plain(document['statistics']['baseline'])}", color=INK, fontsize=9)
    return figure


def cost_figure(document: Mapping[str, Any]) -> Figure:
    """Accuracy against time, parameters and, where token counts are known, memory."""
    rows, named = document["rows"], labels(document)
    kinds = [
        ("s to train one head", [max(row["seconds"], _CLOCK) / len(row["seeds"]) for row in rows]),
        ("parameters", [row["parameters"] for row in rows]),
    ]
    memory = [counted(document, row) for row in rows]
    if all(memory):
        batch = document["asked"]["batch_size"]
        kinds.append(("MB kept per batch", [4e-6 * each.memory * batch for each in memory]))
    figure, grid = _canvas(3.1, len(kinds), sharey=True)
    for axes, (words, values) in zip(grid, kinds, strict=True):
        for place, (row, value) in enumerate(zip(rows, values, strict=True)):
            style = _line(place)
            axes.plot(
                [value], [row["mean"]], "o", ms=7, color=style["color"], mfc=style["color"] if place < 7 else PAPER
            )
            axes.annotate(
                str(place + 1), (value, row["mean"]), xytext=(5, 4), textcoords="offset points", fontsize=8, color=INK
            )
        axes.set_xscale("log")
        axes.margins(0.16)
        wide = max(values) > 30 * min(values)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(words, color=INK, fontsize=9)
        axes.grid(color=GRID, linewidth=0.8)
    grid[0].set_ylabel("accuracy (%)", color=INK, fontsize=9)
    keys = "    ".join(f"{place + 1} {_plain(name)}" for place, name in enumerate(named))
    figure.supxlabel(_folded(keys), fontsize=8, color=INK, ha="left", x=0.02)
    return figure


def curves_figure(histories: Sequence[tuple[str, Sequence[Mapping[str, float]]]]) -> Figure | None:
    """Loss per epoch, mean over seeds, of each row; held-out accuracy beside it where there is one.

    Args:
        histories: (name, epochs with `epoch`, `loss` and perhaps `held_out`).
    """
    if not any(len(lines) > 1 for _, lines in histories):
        return None
    held = any("held_out" in line for _, lines in histories for line in lines)
    figure, grid = _canvas(3.3, 2 if held else 1)
    for axes, key in zip(grid, ("loss", "held_out"), strict=False):
        for place, (name, lines) in enumerate(histories):
            known = [line for line in lines if key in line]
            axes.plot(
                [line["epoch"] for line in known], [line[key] for line in known], label=_plain(name), linewidth=1.5,
                **_line(place),
            )  # fmt: skip
        axes.set_xlabel("epoch", color=INK, fontsize=9)
        axes.set_ylabel("training loss" if key == "loss" else "held-out accuracy (%)", color=INK, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color=GRID, linewidth=0.8)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8, labelcolor=INK)
    return figure


def growth_figure(document: Mapping[str, Any]) -> Figure | None:
    """Multiply-adds per question against the number of tokens: why pairs are summed without a map per pair."""
    row = next((row for row in document["rows"] if row.get("tokens") and row.get("dims")), None)
    if row is None or set(row["tokens"]) != {"text", "image"}:
        return None
    text, width = row["tokens"]["text"], document["asked"]["width"]
    counts = [16, 49, 100, 196, 400, 577, 1024, 2048]
    figure, [axes] = _canvas(3.2)
    for place, (method, order) in enumerate(zip(_STORY, ("N D", "N² D", "N² D²"), strict=True)):
        macs = [figures(method, row["dims"], {"text": text, "image": n}, width=width).macs for n in counts]
        axes.plot([text + n for n in counts], macs, marker="o", ms=3.5, label=f"{method}: O({order})", **_line(place))
    here = sum(row["tokens"].values())
    axes.axvline(here, color=FAINT, linestyle=":", linewidth=1.2)
    axes.annotate(
        f"here: N = {here}", (here, 1), xycoords=("data", "axes fraction"), xytext=(3, -10),
        textcoords="offset points", fontsize=8, color=FAINT,
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("tokens N of both modalities", color=INK, fontsize=9)
    axes.set_ylabel("multiply-adds per question", color=INK, fontsize=9)
    axes.grid(color=GRID, linewidth=0.8)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write NAME.svg, NAME.pdf and NAME.png; equal figures give equal files."""
    for kind, facts in (("svg", {"Date": None}), ("pdf", {"CreationDate": None}), ("png", {"Software": "umecache"})):
        with matplotlib.rc_context({"svg.hashsalt": "umecache", "svg.fonttype": "path"}):
            figure.savefig(folder / f"{name}.{kind}", metadata=facts, facecolor=PAPER)


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


def _canvas(height: float, columns: int = 1, *, sharey: bool = False) -> tuple[Figure, list[Axes]]:
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


def _names(axes: Axes, named: Sequence[str]) -> None:
    axes.set_yticks(range(len(named)), labels=[_plain(name) for name in named], fontsize=9, color=INK)
    axes.set_ylim(len(named) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)


def _line(place: int) -> dict[str, Any]:
    return {"color": _CYCLE[place % len(_CYCLE)], "linestyle": _STYLES[place // len(_CYCLE) % len(_STYLES)]}


def _short(value: float) -> str:
    return f"{value:g}" if value < 1000 else f"{value / 1e3:g} k" if value < 1e6 else f"{value / 1e6:g} M"


def _plain(text: str) -> str:
    return text.replace("\\", "\\\\").replace("$", r"\$") if "$" in text else text


def _folded(words: str, width: int = 105) -> str:
    lines = [""]
    for word in words.split("    "):
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += ("    " if lines[-1] else "") + word
    return "\n".join(lines)
