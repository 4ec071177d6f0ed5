"""The negative control beside a comparison: the same rows, trained and scored with every image exchanged.

    document["control"] = measure_control(document, folder, split, Path("runs/vqa-v2/shuffled"))
    table = control_table(document)             # None where there is no control

Whatever accuracy a row keeps without its picture came from elsewhere: what it loses is what looking at the picture is
worth to it. Losses are paired as differences are (same questions, same seeds), and corrected together.

Shapes: M rows, S seeds, I images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from umecache.analysis.evidence import read_document, score_all
from umecache.analysis.sections import labels
from umecache.analysis.statistics import ROUNDS, Groups, bootstrap, holm
from umecache.analysis.table import is_control
from umecache.analysis.tables import Cell, Column, Table
from umecache.data.dataset import Split
from umecache.errors import UsageError

SURE = 0.05  # a corrected p-value below is called a loss
# Where it runs and what it is called may differ, and which methods there are; stores are told apart by rows.
_MAY_DIFFER = {
    "shuffle_images", "out", "overwrite", "update", "recipe", "data", "text", "image", "features", "methods", "device",
    "threads", "residency", "checkpoint_minutes", "tracker", "stack_seeds",
}  # fmt: skip


def measure_control(
    document: Mapping[str, Any], folder: Path, split: Split, control: Path, *, rounds: int = ROUNDS
) -> dict[str, Any]:
    """What each row scores without its picture, and what it loses: `row`, `mean`, `loss`, `low`, `high`, `p`, `p_holm`.

    Args:
        document: of the comparison in `folder`.
        split: its eval split.
        control: folder of the same comparison with `--shuffle-images`; rows that it lacks are left out.
        rounds: of the bootstrap.

    Raises:
        UsageError: no control, or that of another comparison; a split without annotations.
        DataError: files that are damaged or belong to other data.
    """
    other = read_document(control)
    if split.annotations is None:
        raise UsageError(f"The answers of {split.name!r} are not known, so there is nothing to lose.")
    how = "umecache report PLAIN --control SHUFFLED, SHUFFLED by umecache compare ... --shuffle-images"
    if document["asked"].get("shuffle_images"):
        raise UsageError(f"{folder} is a negative control itself.", why="Its images were exchanged.", next=how)
    if not other["asked"].get("shuffle_images"):
        raise UsageError(f"{control} is no negative control.", why="Its images were not exchanged.", next=how)
    names = sorted((set(document["asked"]) | set(other["asked"])) - _MAY_DIFFER)
    differ = [name for name in names if document["asked"].get(name) != other["asked"].get(name)]
    if differ or document["protocol"] != other["protocol"]:
        raise UsageError(
            f"{control} is the control of another comparison.",
            why=f"They differ in {', '.join(differ) or 'protocol'}.",
            next="the command at the bottom of the report, with --shuffle-images",
        )
    known = {_key(document, row): place for place, row in enumerate(other["rows"])}
    pairs = [(m, known[key]) for m, row in enumerate(document["rows"]) if (key := _key(document, row)) in known]
    if not pairs:
        raise UsageError(f"{control} has none of the rows of {folder}.")
    groups = Groups.of(np.array([question.image_id for question in split.questions], np.int64))
    seen, unseen = (
        groups.sums(score_all(told, at, split).scores) for told, at in ((document, folder), (other, control))
    )
    found = bootstrap(np.stack([seen[m] - unseen[n] for m, n in pairs]), groups.sizes, rounds=rounds)
    corrected, named = holm(found.p), labels(document)
    rows = [
        {
            "row": named[m],
            "mean": other["rows"][n]["mean"],
            "loss": round(100 * float(found.mean[place]), 2),
            "low": round(100 * float(found.low[place]), 2),
            "high": round(100 * float(found.high[place]), 2),
            "p": round(float(found.p[place]), 5),
            "p_holm": round(float(corrected[place]), 5),
        }
        for place, (m, n) in enumerate(pairs)
    ]
    return {"folder": str(control), "rows": rows}


def control_table(document: Mapping[str, Any]) -> Table | None:
    """Accuracy with its own pictures and with others."""
    if not (told := document.get("control")):
        return None
    by_name = dict(zip(labels(document), document["rows"], strict=True))
    rows: list[dict[str, Cell]] = [{"own": by_name[row["row"]]["mean"], **row} for row in told["rows"]]
    columns = (
        Column("row", words=True),
        Column("accuracy", "{own:.2f}"),
        Column("images exchanged", "{mean:.2f}"),
        Column("loss", "{loss:+.2f}"),
        Column("95 % interval", "{low:+.2f} to {high:+.2f}"),
        Column("p", "{p:.4f}"),
        Column("p, corrected", "{p_holm:.4f}"),
    )
    note = (
        "The same rows, trained and scored with every question seeing another one's image (--shuffle-images): what a "
        f"row loses is what its picture is worth to it. Same questions, seeds paired; {len(rows)} tests (Holm)."
    )
    faint = frozenset(place for place, row in enumerate(told["rows"]) if is_control(by_name[row["row"]]["method"]))
    return Table("control", "Negative control", columns, rows, note, faint)


def control_findings(document: Mapping[str, Any]) -> list[str]:
    """Fusion rows that lose nothing for sure when they see other pictures; nothing where there is no control."""
    if not (told := document.get("control")):
        return []
    by_name = dict(zip(labels(document), document["rows"], strict=True))
    fusions = [row for row in told["rows"] if not is_control(by_name[row["row"]]["method"])]
    blind = [row["row"] for row in fusions if row["loss"] <= 0 or row["p_holm"] >= SURE]
    if not fusions:
        return []
    if not blind:
        return ["With images exchanged every fusion row loses accuracy: they look at the picture."]
    return [f"With images exchanged no loss is sure for: {'; '.join(blind)}."]


def _key(document: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """What makes it the same row; its rate only where every rate has a row."""
    rate = row["lr"] if isinstance(document["asked"].get("lr"), list) else None
    return json.dumps([row["method"], row["text"], row["image"], row.get("features"), rate], sort_keys=True)
