"""The tables of a report, from the document of a comparison that has statistics.

for table in sections(document): print(table.markdown())
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from umecache.analysis.plot import several_pairs
from umecache.analysis.table import is_control
from umecache.analysis.tables import Cell, Column, Table
from umecache.fusion.cost import figures
from umecache.fusion.costs import COSTS
from umecache.training.table import answer_types, count

_TYPES_SHOWN = 24  # question types on the page; the CSV has all
_BYTES = 4  # of a float32


def sections(document: Mapping[str, Any]) -> list[Table]:
    """All tables that the document has the numbers for, in the order of the report."""
    tables = [
        accuracy(document),
        differences(document),
        cost(document),
        unlikeness(document),
        by_type(document),
        same_answers(document),
    ]
    return [table for table in tables if table is not None]


def labels(document: Mapping[str, Any]) -> list[str]:
    """A name for each row that no other has: the method, and what else tells rows apart."""
    rows = document["rows"]
    rates: dict[str, set[float]] = {}
    for row in rows:
        rates.setdefault(row["method"], set()).add(row["lr"])
    several_rates = all(len(each) > 1 for each in rates.values())
    named = []
    for row in rows:
        pair = " + ".join(row[name] for name in ("text", "image") if row.get(name)) if several_pairs(rows) else ""
        rate = f"{row['lr']:g}" if several_rates else ""
        named.append(", ".join(filter(None, (row["method"], pair, rate))))
    return named


def accuracy(document: Mapping[str, Any]) -> Table:
    """Accuracy with intervals, overall and per answer type."""
    kinds = answer_types(document["rows"])
    rows: list[dict[str, Cell]] = []
    for name, row in zip(labels(document), document["rows"], strict=True):
        low, high = row.get("interval") or (None, None)
        fields: dict[str, Cell] = {
            "row": name, "method": row["method"], "text": row["text"], "image": row["image"], "mean": row["mean"],
            "low": low, "high": high, "std": row["std"] if len(row["seeds"]) > 1 else None, "seeds": len(row["seeds"]),
            "lr": row["lr"],
        }  # fmt: skip
        for kind in kinds:
            between = (row.get("per_answer_type_interval") or {}).get(kind) or (None, None)
            fields[kind] = (row["per_answer_type"] or {}).get(kind)
            fields[f"{kind} low"], fields[f"{kind} high"] = between
        source = row.get("source") or {}
        rows.append(fields | {"source": source.get("mean"), "source_std": source.get("std")})
    columns = [
        Column("row", words=True),
        Column("accuracy", "{mean:.2f}"),
        Column("95 % interval", "{low:.2f} to {high:.2f}"),
        Column("SD of seeds", "{std:.2f}"),
        *(Column(kind, f"{{{kind}:.2f}}") for kind in kinds),
        Column("lr", "{lr:g}"),
    ]
    if any(row["source"] is not None for row in rows):
        columns.append(Column("source's", "{source:.2f} ± {source_std:.2f}"))
    note = f"Percent, {document['protocol']}."
    if document.get("statistics"):
        note += " Intervals count images and seeds; they overlap more than the paired differences below are unsure."
    return Table("accuracy", "Accuracy", tuple(columns), rows, note, _controls(document))


def differences(document: Mapping[str, Any]) -> Table | None:
    """Paired differences to the baseline."""
    rows: list[dict[str, Cell]] = []
    faint: set[int] = set()
    for name, row in zip(labels(document), document["rows"], strict=True):
        if difference := row.get("difference"):
            if is_control(row["method"]):
                faint.add(len(rows))
            rows.append({"row": name, **difference})
    if not rows:
        return None
    columns = (
        Column("row", words=True),
        Column("difference", "{mean:+.2f}"),
        Column("95 % interval", "{low:+.2f} to {high:+.2f}"),
        Column("p", "{p:.4f}"),
        Column("p, corrected", "{p_holm:.4f}"),
    )
    to = document["statistics"]["baseline"]
    note = f"Points of accuracy above {to}: same questions, seeds paired. Corrected for {len(rows)} tests (Holm)."
    return Table("differences", f"Differences to {to}", columns, rows, note, frozenset(faint))


def costs(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each row costs: measured seconds and parameters, and, counted, multiply-adds and megabytes (else None)."""
    found = []
    for name, row in zip(labels(document), document["rows"], strict=True):
        told = counted(document, row)
        batch = document["asked"]["batch_size"]
        found.append(
            {
                "row": name,
                "seconds_per_head": round(row["seconds"] / len(row["seeds"]), 3),
                "parameters": row["parameters"],
                "macs": None if told is None else told.macs,
                "megabytes": None if told is None else round(told.memory * _BYTES * batch / 1e6, 2),
            }
        )
    return found


def cost(document: Mapping[str, Any]) -> Table:
    """What a method costs beside what it scores."""
    rows: list[dict[str, Cell]] = []
    for row, told in zip(document["rows"], costs(document), strict=True):
        fields: dict[str, Cell] = {"row": told["row"], "mean": row["mean"], **told, "said": count(told["parameters"])}
        rows.append(fields | ({} if told["macs"] is None else {"macs_said": count(told["macs"])}))
    columns = [
        Column("row", words=True),
        Column("accuracy", "{mean:.2f}"),
        Column("s per head", "{seconds_per_head:.1f}"),
        Column("parameters", "{said!s:s}"),
    ]
    note = (
        "Seconds: training and answering of one head, measured here, without reading; parameters with the classifier."
    )
    if any(row["macs"] for row in rows):
        columns += [Column("multiply-adds", "{macs_said}"), Column("MB kept", "{megabytes:,.1f}")]
        note += (
            " Multiply-adds of the fusion per question, and what a batch keeps for the backward pass, are counted from "
            "the method's equations (tests hold them against what is measured) at the mean number of tokens."
        )
    return Table("cost", "What it costs", tuple(columns), rows, note, _controls(document))


def counted(document: Mapping[str, Any], row: Mapping[str, Any]) -> Any:
    """The counted cost of a row's fusion; None for methods without equations, or where token counts are unknown."""
    tokens, dims, method = row.get("tokens"), row.get("dims"), row["method"]
    if method not in COSTS or not tokens or not dims or set(dims) != set(tokens):
        return None
    options = row.get("method_args") or {}
    return figures(method, dims, tokens, width=document["asked"]["width"], **options)


def unlikeness(document: Mapping[str, Any]) -> Table | None:
    """How unlike the modalities' tokens are, before and after each method's joint stage (`heterogeneity.py`)."""
    found = document.get("heterogeneity") or {}
    if not found.get("rows"):
        return None
    shown = (("gap", "gap", 2), ("cka", "CKA", 2), ("probe", "probe (%)", 1), ("rank", "effective rank", 1),
             ("spread", "spread", 2))  # fmt: skip
    rows: list[dict[str, Cell]] = []
    for row, told in zip(document["rows"], found["rows"], strict=True):
        fields: dict[str, Cell] = {"row": told["row"], "mean": row["mean"]}
        for key, name, digits in shown:
            values = [(told[stage] or {}).get(key) for stage in ("before", "after")]
            fields |= {f"{key}_before": values[0], f"{key}_after": values[1]}
            said = [f"{value:.{digits}f}".replace("-0.00", "0.00") for value in values if value is not None]
            fields[name] = " → ".join(said) if values[0] is not None else None
        rows.append(fields)
    columns = (Column("row", words=True), Column("accuracy", "{mean:.2f}"), *(Column(name) for _, name, _ in shown))
    note = (
        f"Tokens of {found['questions']:,} questions, mean over seeds: as projected, → behind the joint stage (methods "
        "that meet as pooled vectors, in pairs or in latents have none). Gap: between the modalities' mean tokens, "
        "over their spread. CKA: 0 unrelated, 1 alike. Probe: how often a linear one tells the modalities apart; 50 is "
        "chance. Effective rank of all tokens and their spread over the length of their mean: small ones are collapse."
    )
    return Table("tokens", "How unlike the modalities are", columns, rows, note, _controls(document))


def by_type(document: Mapping[str, Any]) -> Table | None:
    """Accuracy per question type, a heat map."""
    rows = document["rows"]
    named = list((document.get("statistics") or {}).get("question_types") or rows[0].get("per_question_type") or ())
    if len(named) < 2:
        return None
    counts = (document.get("statistics") or {}).get("question_types") or {}
    shown = labels(document)
    lines: list[dict[str, Cell]] = []
    for kind in named:
        fields: dict[str, Cell] = {"question type": kind, "questions": counts.get(kind)}
        for place, row in enumerate(rows):
            fields[f"m{place}"] = (row.get("per_question_type") or {}).get(kind)
        lines.append(fields)
    columns = (
        Column("question type", words=True),
        Column("questions", "{questions:,}"),
        *(Column(name, f"{{m{place}:.1f}}", heat=f"m{place}") for place, name in enumerate(shown)),
    )
    rest = len(lines) - _TYPES_SHOWN
    note = "Percent, most frequent types first; without intervals: types with few questions are hardly known." + (
        f" The {rest} rarer ones are in tables/types.csv." if rest > 0 else ""
    )
    return Table("types", "By question type", columns, lines, note, shown=_TYPES_SHOWN)


def same_answers(document: Mapping[str, Any]) -> Table | None:
    """Agreement between rows."""
    statistics = document.get("statistics")
    if not statistics or len(document["rows"]) < 2:
        return None
    named = labels(document)
    lines: list[dict[str, Cell]] = [
        {"row": name, **{f"m{place}": value for place, value in enumerate(line)}}
        for name, line in zip(named, statistics["agreement"], strict=True)
    ]
    columns = (
        Column("row", words=True),
        *(Column(name, f"{{m{place}:.0f}}", heat=f"m{place}") for place, name in enumerate(named)),
    )
    note = (
        "Percent of questions with the same answer, seeds paired; on the diagonal, two seeds of one method. Where two "
        "methods agree as much as two seeds do, they say the same."
    )
    return Table("agreement", "Who agrees with whom", columns, lines, note)


def _controls(document: Mapping[str, Any]) -> frozenset[int]:
    return frozenset(place for place, row in enumerate(document["rows"]) if is_control(row["method"]))
