"""Where the numbers of a report come from: run folders, stores by fingerprint, and the command that asks again."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from umecache.analysis.evidence import local
from umecache.analysis.sections import labels
from umecache.analysis.tables import Cell, Column, Table
from umecache.training.config import CompareConfig


def provenance(document: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Per row its run and the fingerprint of every store that it read."""
    found = []
    for name, row in zip(labels(document), document["rows"], strict=True):
        run = local(document, row["seeds"][0]["results"], folder).parent / "run.json"
        facts = json.loads(run.read_text("utf-8"))
        stores = [
            {"modality": source["name"], "model": source["model"], "split": split, **store}
            for source in facts["features"]
            for split, store in source["stores"].items()
        ]
        found.append({"row": name, "run": row["run"], "stores": stores})
    return found


def command(document: Mapping[str, Any]) -> str:
    """The command line that asks for the same comparison."""
    plain = {name: field.default for name, field in CompareConfig.__dataclass_fields__.items()}
    words = ["umecache", "compare"]
    for name, value in document["asked"].items():
        flag = "--" + {"device": "devices", "method_args": "method-arg"}.get(name, name.replace("_", "-"))
        value = tuple(value) if isinstance(value, list) else value
        if name in ("overwrite", "facts", "out") or value is None or value == plain.get(name) or value in ({}, ()):
            continue
        if name in ("text", "image"):
            for each in value:
                words += [flag, each]
        elif isinstance(value, dict):
            for key, each in value.items():
                words += [flag, f"{key}={each}"]
        elif isinstance(value, bool):
            words += [flag] if value else []
        elif isinstance(value, tuple):
            words += [flag, ",".join(map(str, value)) + ("," if name == "seeds" and len(value) == 1 else "")]
        else:
            words += [flag, str(value)]
    return shlex.join(words)


def sources(document: Mapping[str, Any]) -> list[Table]:
    """Where every number comes from: stores, and the run folder of every row."""
    named = [each["row"] for each in document["provenance"]]
    readers: dict[tuple[str, ...], list[str]] = {}
    for each in document["provenance"]:
        for store in each["stores"]:
            facts = tuple(store[key] for key in ("modality", "model", "split", "fingerprint", "path"))
            readers.setdefault(facts, []).append(each["row"])
    stores = [
        {"modality": facts[0], "model": facts[1], "split": facts[2], "fingerprint": facts[3], "short": facts[3][:16],
         "path": facts[4], "rows": "all" if by == named else ", ".join(by)}
        for facts, by in readers.items()
    ]  # fmt: skip
    here = Path(document["report"]).parent
    runs: list[dict[str, Cell]] = [
        {"row": name, "run": os.path.relpath(row["run"], here),
         "seeds": ", ".join(f"{seed['seed']}: {_score(seed['overall'])}" for seed in row["seeds"]),
         **{f"no {modality}": count for modality, count in row["missing_inputs"].items()}}
        for name, row in zip(named, document["rows"], strict=True)
    ]  # fmt: skip
    missing = tuple(Column(name) for name in dict.fromkeys(n for row in runs for n in row if n.startswith("no ")))
    words = [Column(name, words=True) for name in ("modality", "model", "split", "path", "rows")]
    return [
        Table(
            "runs", "Runs", (*(Column(name, words=True) for name in ("row", "seeds", "run")), *missing), runs,
            "Seed: accuracy; folders beside this file; questions whose input could not be read.",
        ),
        Table(
            "stores", "Stores", (*words[:3], Column("fingerprint", "{short}", words=True), *words[3:]), stores,
            "Fingerprints of what was read: the first 16 of 64 digits; all in tables/stores.csv and compare.json.",
        ),
    ]  # fmt: skip


def _score(value: float | None) -> str:
    return "not scored" if value is None else f"{value:.2f}"
