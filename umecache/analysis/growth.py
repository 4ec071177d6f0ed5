"""Cost against the number of tokens N, a figure and a table: measured (`measured_cost.py`), else counted.

growth_figure(document)                 # of a comparison; None where it can't be told
growth_table(document)                  # None where nothing was measured
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from umecache.analysis.figures import GRID, PAPER, canvas, line_style
from umecache.analysis.measured_cost import NAMES
from umecache.analysis.plot import FAINT, INK
from umecache.analysis.tables import Cell, Column, Table
from umecache.fusion.cost import figures

COUNTED = (
    "Counted, not timed: `umecache report --measure-cost` times it here. A map for every pair of tokens costs N² D² "
    "(simple-pair); with maps per token pairs cost N² D (ume); pooled methods N D. Projections of tokens, N D², are in "
    "all of them."
)
MEASURED = (
    "Measured: one question, forward and backward. Dotted: as it would go on, not measured. Powers of N are fitted "
    "over the larger N."
)
_STORY = (("simple-pair", "N² D²"), ("ume", "N² D"), ("concat", "N D"))
_COUNTS = (16, 49, 100, 196, 400, 577, 1024, 2048)
_POWERS = {"dense": (2, 2), "kept": (2, 2)}  # of N, in seconds and bytes; the others: 2 and 1
_UNITS = (("seconds", 1e3, "ms", "ms for one question"), ("bytes", 1e-6, "MB", "MB at the most"))


def growth_figure(document: Mapping[str, Any]) -> Figure | None:
    """Measured seconds and memory against N, else counted multiply-adds; None where token counts are unknown too."""
    return _measured(document) if document.get("measured_cost") else _counted(document)


def caption(document: Mapping[str, Any]) -> str:
    """What stands below the figure."""
    return MEASURED if document.get("measured_cost") else COUNTED


def growth_table(document: Mapping[str, Any]) -> Table | None:
    """What was measured, N in rows."""
    if not (told := document.get("measured_cost")):
        return None
    rows: list[dict[str, Cell]] = []
    for tokens in sorted({point["tokens"] for form in told["forms"] for point in form["points"]}):
        fields: dict[str, Cell] = {"N": tokens}
        for form in told["forms"]:
            found = next((point for point in form["points"] if point["tokens"] == tokens), None)
            for key, scale, unit, _ in _UNITS:
                fields[f"{form['form']} {unit}"] = None if found is None else round(scale * found[key], 3)
        rows.append(fields)
    columns = [Column("N", "{N:,}")]
    for _, _, unit, _ in _UNITS:
        columns += [Column(f"{_short(form)}, {unit}", f"{{{form['form']} {unit}:,.1f}}") for form in told["forms"]]
    return Table("growth", "Cost against N", tuple(columns), rows, _note(told))


def _note(told: Mapping[str, Any]) -> str:
    """What was measured, with what, and where it ended."""
    machine = f"{told['device']}, {told['threads']} of {told['cores']} threads, torch {told['torch']}, {told['date']}"
    said = [
        f"The pair stage with its maps and adaptive weights, one question, D = {told['width']}, float32, forward and "
        f"backward, on {machine}. Memory: the most that tensors held beside the inputs, gradients among "
        "them; with few tokens most of it are the gradients of the maps, 4 D² numbers."
    ]
    said += [
        f"{_short(form)[0].upper()}{_short(form)[1:]}: {form['stopped']}." for form in told["forms"] if form["stopped"]
    ]
    dense = next((form for form in told["forms"] if form["form"] == "dense"), None)
    if dense is not None:
        n, d = int(dense["points"][-1]["tokens"]), int(told["width"])
        pairs = n * (n + 1) // 2
        said.append(
            "Against N a map per pair grows as pairs do; its D² shows in the distance between the lines. Counted, at "
            f"N = {n}: {4e-9 * pairs * d * d:.2f} G multiply-adds forward, with maps per token "
            f"{1e-9 * (4 * n * d * d + pairs * d):.2f} G."
        )
    return " ".join(said)


def _short(form: Mapping[str, Any]) -> str:
    return NAMES[form["form"]].removeprefix("maps per token, ")


def _measured(document: Mapping[str, Any]) -> Figure:
    told = document["measured_cost"]
    figure, grid = canvas(3.7, 2)
    most = max(point["tokens"] for form in told["forms"] for point in form["points"])
    for number, (axes, (key, scale, _, words)) in enumerate(zip(grid, _UNITS, strict=True)):
        _dress(axes, _here(document))
        shown = [scale * point[key] for form in told["forms"] for point in form["points"]]
        axes.set_ylim(min(shown) / 3, max(shown) * 100)  # above: the legend's room
        for place, form in enumerate(told["forms"]):
            known = [(point["tokens"], scale * point[key]) for point in form["points"]]
            style, power = line_style(place), form["slopes"][key]
            label = _short(form) + ("" if power is None else f": N^{power:.1f}")
            axes.plot(*zip(*known, strict=True), marker="o", ms=4, linewidth=1.6, label=label, **style)
            at, value = known[-1]
            if at < most:
                on = value * (most / at) ** _POWERS.get(form["form"], (2, 1))[number]
                axes.plot([at, most], [value, on], color=style["color"], linestyle=":", linewidth=1.1)
        axes.set_xlabel("tokens N of both modalities", color=INK, fontsize=9)
        axes.set_title(words, loc="left", color=INK, fontsize=9.5)
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left")
    return figure


def counted_growth(document: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Multiply-adds of three methods against N, from their equations; None where token counts are unknown."""
    row = next((row for row in document["rows"] if row.get("tokens") and row.get("dims")), None)
    if row is None or set(row["tokens"]) != {"text", "image"}:
        return None
    text, width = row["tokens"]["text"], document["asked"]["width"]
    return [
        {
            "method": method,
            "order": order,
            "points": [
                {"tokens": text + n, "macs": figures(method, row["dims"], {"text": text, "image": n}, width=width).macs}
                for n in _COUNTS
            ],
        }
        for method, order in _STORY
    ]


def _counted(document: Mapping[str, Any]) -> Figure | None:
    if (told := counted_growth(document)) is None:
        return None
    figure, [axes] = canvas(3.2)
    _dress(axes, _here(document))
    for place, each in enumerate(told):
        label = f"{each['method']}: O({each['order']})"
        tokens, macs = ([point[key] for point in each["points"]] for key in ("tokens", "macs"))
        axes.plot(tokens, macs, marker="o", ms=3.5, label=label, **line_style(place))
    axes.set_xlabel("tokens N of both modalities", color=INK, fontsize=9)
    axes.set_ylabel("multiply-adds per question, counted", color=INK, fontsize=9)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return figure


def _here(document: Mapping[str, Any]) -> int | None:
    """N of the comparison: the mean tokens of the first row that knows them."""
    return next((sum(row["tokens"].values()) for row in document["rows"] if row.get("tokens")), None)


def _dress(axes: Axes, here: int | None) -> None:
    """Logarithmic axes, before anything is drawn in them, with plain numbers; where the comparison stands."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=2, subs=(1.0,), numticks=20))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(color=GRID, linewidth=0.8)
    if here is not None:
        axes.axvline(here, color=FAINT, linestyle=(0, (1, 2)), linewidth=1.2, zorder=0)
        axes.annotate(
            f"here: N = {here:,}", (here, 0), xycoords=("data", "axes fraction"), xytext=(3, 4),
            textcoords="offset points", fontsize=8, color=FAINT, bbox={"fc": PAPER, "ec": "none", "pad": 1},
        )  # fmt: skip
