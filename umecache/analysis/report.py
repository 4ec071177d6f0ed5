"""What a comparison says, in sentences computed from its rows, and a Markdown report with pictures.

findings(comparison.document)        # ["Best control: text-only, 40.9 %.", ...]
write_report(Path("report.md"), comparison.document, title="...", notes=findings(comparison.document))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from umecache.analysis.sections import labels
from umecache.analysis.table import is_control, markdown_table

Named = tuple[str, Mapping[str, Any]]  # a row and its label
SURE = 0.05  # a corrected p-value below is called a difference


def findings(comparison: Mapping[str, Any]) -> list[str]:
    """How the fusion methods stand against the best control. Nothing is said that the rows don't show.

    Args:
        comparison: the document that `umecache compare --json` prints.
    """
    named = zip(labels(comparison), comparison["rows"], strict=True)
    rows = sorted(((name, row) for name, row in named if row["mean"] is not None), key=lambda each: -each[1]["mean"])
    controls = [each for each in rows if is_control(each[1]["method"])]
    fusions = [each for each in rows if not is_control(each[1]["method"])]
    said = []
    if controls:
        said.append(f"Best control, which sees one modality only: {_score(controls[0])}.")
    if comparison.get("statistics"):
        said += _tested(rows, comparison["statistics"]["baseline"])
    elif controls and fusions:
        # Apart: the intervals of one standard deviation around both means do not touch.
        bar = controls[0][1]["mean"] + controls[0][1]["std"]
        above = [name for name, row in fusions if row["mean"] - row["std"] > bar]
        rest = [name for name, _ in fusions if name not in above]
        named_above = "all fusion methods" if not rest else _listed(above) or "no fusion method"
        said.append(f"Above it by more than both spreads: {named_above}" + (f"; not {_listed(rest)}." if rest else "."))
    if len(fusions) > 1:
        said.append(f"Best and last of {len(fusions)} fusion rows: {_score(fusions[0])}; {_score(fusions[-1])}.")
    elif fusions:
        said.append(f"The one fusion row: {_score(fusions[0])}.")
    if fusions:
        best, row = fusions[0]
        by_type = row.get("per_question_type") or {}
        if len(by_type) > 1:
            hardest = min(by_type, key=lambda name: by_type[name])
            said.append(f"Hardest for {best}: questions that begin {hardest!r}, {by_type[hardest]:.1f} %.")
    chosen = (comparison.get("asked") or {}).get("lr") == "auto"  # each its own, even where all chose the same
    if not chosen and len({row["lr"] for _, row in fusions}) == 1 and len({row["method"] for _, row in fusions}) > 1:
        said.append(
            f"All methods were trained with one rate ({fusions[0][1]['lr']:g}), which suits some better than others: "
            "this is no ranking. `umecache compare --lr auto` gives each its own."
        )
    return said


def _tested(rows: Sequence[Named], baseline: str) -> list[str]:
    """Which differences to the baseline stand up to a corrected test."""
    kinds: dict[str, list[str]] = {"above": [], "below": [], "not told apart from": []}
    for name, row in rows:
        if told := row.get("difference"):
            sure = told["p_holm"] < SURE
            kind = ("above" if told["mean"] > 0 else "below") if sure else "not told apart from"
            kinds[kind].append(f"{name} ({told['mean']:+.1f})")
    found = [f" {kind[0].upper()}{kind[1:]} it: {_listed(names)}." for kind, names in kinds.items() if names]
    return [f"Against {baseline}, in paired differences (corrected p below {SURE})." + "".join(found)] if found else []


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


def _score(named: Named) -> str:
    return f"{named[0]} {named[1]['mean']:.1f} %"


def _listed(names: Sequence[str]) -> str:
    """Names in a row; a name of several words has commas of its own."""
    return ("; " if any("," in name for name in names) else ", ").join(names)
