"""The accuracies of a comparison as a picture.

    accuracy_plot(comparison.document, Path("accuracy.png"))      # the document that `umecache compare --json` prints

One bar per row, from zero, with the spread over seeds as whiskers and every seed as a dot; the controls, which see one
modality only, are grey and hatched. Dashed lines: what needs no training. Drawn with matplotlib's objects only, so
that nothing global changes; colours are Okabe and Ito's, which the colour-blind can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from umecache.analysis.table import is_control

FUSION, CONTROL, INK, FAINT = "#0072B2", "#8C8C8C", "#222222", "#6B6B6B"
WIDTH = 7.2  # inches: a text column
DPI = 160
_BASELINES = {"majority_per_question": "usual answer\nto each wording", "majority": "always\n{answer!r}"}


def accuracy_plot(document: Mapping[str, Any], path: Path, *, title: str | None = None) -> None:
    """Write the PNG.

    Args:
        document: a comparison: `rows` with `method`, `text`, `image`, `mean`, `std` and `seeds`; `baselines`.
        path: where to; its folder exists.
        title: above the picture; None: says data, split and protocol.

    Raises:
        ValueError: no row has a score.
    """
    rows = [row for row in document["rows"] if row["mean"] is not None]
    if not rows:
        raise ValueError("nothing to plot: no row has a score")
    figure = Figure(
        figsize=(WIDTH, 1.55 + (0.46 if several_pairs(rows) else 0.36) * len(rows)),
        dpi=DPI,
        layout="constrained",
        facecolor="white",
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        _bar(axes, place, row)
    _dress(axes, rows, document)
    axes.set_title(
        title or f"{document['data']}, split {document['eval_split']!r}, {document['protocol']} accuracy",
        loc="left", fontsize=11, color=INK, pad=24 if document.get("baselines") else 8,
    )  # fmt: skip
    _baselines(axes, document.get("baselines") or {})
    figure.legend(handles=_keys(rows), loc="outside lower left", ncols=3, frameon=False, fontsize=8.5, handlelength=1.6)
    figure.savefig(path, metadata={"Software": "umecache"})


def _bar(axes: Axes, place: int, row: Mapping[str, Any]) -> None:
    control = is_control(row["method"])
    face, edge = ("#E3E3E3", CONTROL) if control else (FUSION, FUSION)
    axes.barh(place, row["mean"], height=0.62, color=face, edgecolor=edge, hatch="////" if control else None, zorder=2)
    if len(row["seeds"]) > 1:
        axes.errorbar(row["mean"], place, xerr=row["std"], color=INK, capsize=3.5, linewidth=1.2, zorder=4)
        scores = [seed["overall"] for seed in row["seeds"]]
        axes.scatter(scores, [place] * len(scores), s=13, color="white", edgecolor=INK, linewidth=0.8, zorder=5)
    # Beside the farthest mark, in points, so that it never touches it whatever the scale.
    end = max(row["mean"] + row["std"], *(seed["overall"] for seed in row["seeds"]))
    said = f"{row['mean']:.1f}" + (f" ± {row['std']:.1f}" if len(row["seeds"]) > 1 else "")
    axes.annotate(
        said, (end, place), xytext=(7, 0), textcoords="offset points", va="center", fontsize=9, color=INK, zorder=6,
        bbox={"boxstyle": "square,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
    )  # fmt: skip


def _dress(axes: Axes, rows: Sequence[Mapping[str, Any]], document: Mapping[str, Any]) -> None:
    axes.set_yticks(range(len(rows)), labels=row_labels(rows), fontsize=9.5, color=INK)
    axes.set_ylim(len(rows) - 0.45, -0.55)  # the first row on top
    ends = [max(row["mean"] + row["std"], *(seed["overall"] for seed in row["seeds"])) for row in rows]
    highest = max([*ends, *(v for v in (document.get("baselines") or {}).values() if isinstance(v, int | float))])
    # Room for the figures beside the longest bar; nothing is above 100.
    axes.set_xlim(0, 100 * (1.16 if highest > 85 else 1.0) if highest > 45 else max(5.0, 1.35 * highest))
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= 100])
    axes.set_xlabel("accuracy (%)", fontsize=9.5, color=INK)
    axes.tick_params(axis="x", labelsize=9, colors=INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#E6E6E6", linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _baselines(axes: Axes, baselines: Mapping[str, Any]) -> None:
    """Dashed lines with their names above the bars."""
    placed: list[float] = []
    span = axes.get_xlim()[1]
    for name, words in _BASELINES.items():
        if not isinstance(value := baselines.get(name), int | float):
            continue
        axes.axvline(value, color="#D55E00", linestyle=(0, (4, 3)), linewidth=1.2, zorder=3)
        # Two names that would run into each other lean away from each other.
        crowded = any(abs(value - other) < 0.16 * span for other in placed)
        axes.annotate(
            words.format(answer=baselines.get("majority_answer")), (value, 1), xycoords=("data", "axes fraction"),
            xytext=(-2 if crowded else 0, 3), textcoords="offset points", ha="right" if crowded else "center",
            va="bottom", fontsize=8, color="#A04000", linespacing=1.05,
        )  # fmt: skip
        placed.append(value)


def _keys(rows: Sequence[Mapping[str, Any]]) -> list[Patch]:
    keys = []
    if any(not is_control(row["method"]) for row in rows):
        keys.append(Patch(facecolor=FUSION, edgecolor=FUSION, label="fusion method"))
    if any(is_control(row["method"]) for row in rows):
        keys.append(Patch(facecolor="#E3E3E3", edgecolor=CONTROL, hatch="////", label="control: one modality only"))
    seeds = max(len(row["seeds"]) for row in rows)
    if seeds > 1:
        keys.append(Patch(facecolor="none", edgecolor="none", label=f"dots: {seeds} seeds; whiskers: ± one SD"))
    return keys


def row_labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The method; with its encoders where the rows have several pairs of them."""
    if not several_pairs(rows):
        return [row["method"] for row in rows]
    named = ((row, " + ".join(name for name in (row["text"], row["image"]) if name)) for row in rows)
    return [f"{row['method']}\n{models}" if models else row["method"] for row, models in named]


def several_pairs(rows: Sequence[Mapping[str, Any]]) -> bool:
    """The rows have more than one pair of encoders."""
    return len({(row["text"], row["image"]) for row in rows}) > 1
