"""A comparison as a table: rows of cells for the terminal, Markdown and CSV.

write_markdown(Path("report.md"), document)      # document: what `umecache compare --json` prints
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

VQA_TYPES = ("yes/no", "number", "other")


def columns(document: Mapping[str, Any]) -> list[str]:
    """Headings; the source's figures only where there are any."""
    named = ["method", "text", "image", "accuracy"]
    named += answer_types(document["rows"])
    named += ["lr", "parameters", "seconds"]
    if any(row.get("source") for row in document["rows"]):
        named.append("source")
    return named


def answer_types(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """All answer types of the rows: VQA's own in the order of its papers, then others by name."""
    found = {name for row in rows for name in row.get("per_answer_type") or {}}
    return [*(name for name in VQA_TYPES if name in found), *sorted(found - set(VQA_TYPES))]


def cells(row: Mapping[str, Any], named: Sequence[str]) -> list[str]:
    """One row in words."""
    types = row.get("per_answer_type") or {}
    source = row.get("source")
    said = {
        "method": row["method"],
        "text": row["text"] or "-",
        "image": row["image"] or "-",
        "accuracy": with_spread(row["mean"], row["std"]),
        "lr": f"{row['lr']:g}",
        "parameters": count(row["parameters"]),
        "seconds": f"{row['seconds']:.1f}",
        "source": with_spread(source["mean"], source["std"]) if source else "-",
    }
    return [said[name] if name in said else f"{types[name]:.2f}" if name in types else "-" for name in named]


def with_spread(mean: float | None, std: float | None) -> str:
    """`41.27 ± 0.35`; without a spread where one seed has none; `not scored` where the split has no annotations."""
    if mean is None or std is None:
        return "not scored"
    return f"{mean:.2f} ± {std:.2f}" if std else f"{mean:.2f}"


def count(number: int) -> str:
    """`1.2 M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def remarks(document: Mapping[str, Any]) -> list[str]:
    """The lines under the table."""
    questions, vocabulary, baselines = document["questions"], document["vocabulary"], document["baselines"]
    lines = [
        f"{document['data']}: {questions['trained_on']:,} questions trained on "
        f"({questions['skipped_out_of_vocabulary']:,} skipped: answer not in the vocabulary), "
        f"{questions['eval']:,} of {document['eval_split']!r} answered; {document['protocol']} accuracy in percent.",
        f"Vocabulary: {vocabulary['classes']:,} answers; "
        f"coverage {vocabulary['coverage']:.2f} % ({vocabulary['definition']}).",
    ]
    if questions["eval_out_of_vocabulary"] is not None:
        lines.append(
            f"{questions['eval_out_of_vocabulary']:,} questions of {document['eval_split']!r} have an answer outside "
            "the vocabulary; they stay in the denominator."
        )
    if baselines:
        lines.append(
            f"Without training: always {baselines['majority_answer']!r} {baselines['majority']:.2f}; "
            f"the usual answer to each wording {baselines['majority_per_question']:.2f}."
        )
    if missing := _missing(document["rows"]):
        lines.append(f"Inputs that could not be read: {missing}; these questions are answered from what is there.")
    lines += document.get("warnings") or ()
    lines += document["notes"]
    recipe = document.get("recipe")
    if recipe:
        lines.append(f"The column 'source' is not ours: {recipe['source']}, {recipe['title']}.")
        lines += recipe["differs"]
    return lines


def _missing(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many questions lacked what, for each pair of encoders where pairs differ; empty where none did."""
    told: dict[str, list[str]] = {}
    for row in rows:
        said = ", ".join(f"{n:,} {name}" for name, n in row["missing_inputs"].items() if n) or "none"
        pair = " + ".join(row[name] for name in ("text", "image") if row.get(name))
        if pair not in (pairs := told.setdefault(said, [])):
            pairs.append(pair)
    if len(told) == 1:
        return next(iter(told)).removesuffix("none")
    return "; ".join(f"{said} ({', '.join(pairs)})" for said, pairs in told.items())


def write_markdown(path: Path, document: Mapping[str, Any]) -> None:
    """The table and its remarks as Markdown."""
    named = columns(document)
    lines = [f"# Fusion methods on {document['data']}, {document['eval_split']}", ""]
    lines.append("| " + " | ".join(named) + " |")
    lines.append("|" + "|".join("---" if name in ("method", "text", "image") else "---:" for name in named) + "|")
    lines += ["| " + " | ".join(cells(row, named)) + " |" for row in document["rows"]]
    lines += ["", *(f"- {line}" for line in remarks(document)), ""]
    lines += ["Runs:", "", *(f"- `{row['run']}`" for row in document["rows"]), ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def write_csv(path: Path, document: Mapping[str, Any]) -> None:
    """One line per method, plain numbers."""
    rows = document["rows"]
    types = answer_types(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        fixed = ["method", "text", "image", "mean", "std", "seeds", "lr", "parameters", "seconds"]
        table.writerow([*fixed, *types, "source_mean", "source_std"])
        for row in rows:
            source = row.get("source") or {}
            seeds = len(row["seeds"])
            plain = [seeds if name == "seeds" else row[name] for name in fixed]
            scores = [(row["per_answer_type"] or {}).get(name) for name in types]
            table.writerow([*plain, *scores, source.get("mean"), source.get("std")])
