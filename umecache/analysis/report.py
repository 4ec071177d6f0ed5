"""What a comparison says, in sentences computed from its rows, and a Markdown report with pictures.

findings(comparison.document)        # ["Best control: text-only, 40.9 %.", ...]
write_report(Path("report.md"), comparison.document, title="...", notes=findings(comparison.document))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from umecache.analysis.table import is_control, markdown_table

SURE = 0.05  # a corrected p-value below is called a difference


def findings(comparison: Mapping[str, Any]) -> list[str]:
    """How the fusion methods stand against the best control. Nothing is said that the rows don't show.

    Args:
        comparison: the document that `umecache compare --json` prints.
    """
    rows = sorted((row for row in comparison["rows"] if row["mean"] is not None), key=lambda row: -row["mean"])
    controls = [row for row in rows if is_control(row["method"])]
    fusions = [row for row in rows if not is_control(row["method"])]
    said = []
    if controls:
        said.append(f"Best control, which sees one modality only: {_score(controls[0])}.")
    if comparison.get("statistics"):
        said += _tested(rows, comparison["statistics"]["baseline"])
    elif controls and fusions:
        # Apart: the intervals of one standard deviation around both means do not touch.
        bar = controls[0]["mean"] + controls[0]["std"]
        above = [row for row in fusions if row["mean"] - row["std"] > bar]
        rest = [row["method"] for row in fusions if row not in above]
        named = "all fusion methods" if not rest else ", ".join(row["method"] for row in above) or "no fusion method"
        said.append(f"Above it by more than both spreads: {named}" + (f"; not {', '.join(rest)}." if rest else "."))
    if fusions:
        said.append(f"Best and last fusion method: {_score(fusions[0])}; {_score(fusions[-1])}.")
        by_type = fusions[0].get("per_question_type") or {}
        if len(by_type) > 1:
            hardest = min(by_type, key=lambda name: by_type[name])
            said.append(
                f"Hardest for {fusions[0]['method']}: questions that begin {hardest!r}, {by_type[hardest]:.1f} %."
            )
    if len({row["lr"] for row in fusions}) == 1 and len(fusions) > 1:
        said.append(
            f"All methods were trained with one rate ({fusions[0]['lr']:g}), which suits some better than others: this "
            "is no ranking. `umecache compare --lr auto` gives each its own."
        )
    return said


def _tested(rows: Sequence[Mapping[str, Any]], baseline: str) -> list[str]:
    """Which differences to the baseline stand up to a corrected test."""
    kinds: dict[str, list[str]] = {"above": [], "below": [], "not told apart from": []}
    for row in rows:
        if told := row.get("difference"):
            sure = told["p_holm"] < SURE
            kind = ("above" if told["mean"] > 0 else "below") if sure else "not told apart from"
            kinds[kind].append(f"{row['method']} ({told['mean']:+.1f})")
    found = [f"{kind} it: {', '.join(names)}" for kind, names in kinds.items() if names]
    return (
        [f"Against {baseline}, in paired differences (corrected p below {SURE}): {'; '.join(found)}."] if found else []
    )


def write_report(
    path: Path,
    comparison: Mapping[str, Any],
    *,
    title: str,
    columns: Sequence[str] | None = None,
    pictures: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """A Markdown page: title, table, notes, pictures, and what the figures are.

    Args:
        path: where to.
        comparison: as `findings`.
        columns: of the table; None: all.
        pictures: caption -> file name beside `path`.
        notes: one line each.
    """
    questions = comparison["questions"]
    lines = [f"# {title}", "", markdown_table(comparison, only=columns), "", *(f"- {note}" for note in notes), ""]
    for caption, name in (pictures or {}).items():
        lines += [f"![{caption}]({name})", ""]
    lines += [
        f"Accuracy in percent by the {comparison['protocol']} protocol, mean and standard deviation over seeds, on "
        f"{questions['eval']:,} questions of {comparison['eval_split']!r}; {questions['trained_on']:,} questions were "
        "trained on.",
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def _score(row: Mapping[str, Any]) -> str:
    return f"{row['method']} {row['mean']:.1f} %"
