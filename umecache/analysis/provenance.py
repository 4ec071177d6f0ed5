"""Where the numbers of a report come from: run folders, stores by fingerprint, and the command that asks again."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from umecache.analysis.evidence import choose_baseline, local
from umecache.analysis.sections import labels
from umecache.analysis.tables import Cell, Column, Table
from umecache.errors import UmecacheError
from umecache.training.recipe import compare_config, shipped

_MARKS = ("manifest.json", "zarr.json")  # of a folder that is a store
_NOT_SAID = ("out", "overwrite", "update", "facts")  # the recipe says facts; the others are about a folder


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
    """The command line that asks for the same comparison, in a new folder: `--out` and `--update` are left out.

    What is a path here is absolute. Settings that the recipe, or else the defaults, already say are left out; where a
    recipe's file is gone all of them are said.
    """
    asked, here = document["asked"], Path(document.get("cwd") or ".")
    said = _said_anyway(asked.get("recipe"), here)
    words = ["umecache", "compare"]
    for name, value in _placed(asked, here).items():
        if name in _NOT_SAID or value is None or value in ({}, []) or said.get(name, ...) == asked[name]:
            continue
        flag = "--" + {"device": "devices", "method_args": "method-arg"}.get(name, name.replace("_", "-"))
        if isinstance(value, bool):
            words += [flag] if value else []
        else:
            words += [word for each in _values(name, value) for word in (flag, each)]
    statistics = document.get("statistics") or {}
    if statistics and statistics["baseline"] != choose_baseline(document["rows"], None):
        words += ["--baseline", _placed_method(statistics["baseline"], here)]
    return shlex.join(words)


def _said_anyway(recipe: str | None, here: Path) -> dict[str, Any]:
    """The settings of a comparison that names nothing but its recipe, as JSON has them."""
    if recipe is not None and recipe not in shipped():
        recipe = os.fspath(here / Path(recipe).expanduser())
    try:
        plain = compare_config(recipe, {})
    except UmecacheError:  # its file is gone, or no recipe any more
        return {}
    known: dict[str, Any] = json.loads(json.dumps(asdict(plain)))
    return {**known, "recipe": None}


def _values(name: str, value: Any) -> list[str]:
    """What stands behind a flag, once for each time that it is said."""
    if name in ("text", "image"):
        return list(value)
    if isinstance(value, Mapping):
        return [f"{key}={_json(each) if name == 'method_args' else each}" for key, each in value.items()]
    if isinstance(value, list):
        return [",".join(map(str, value)) + ("," if name == "seeds" and len(value) == 1 else "")]
    return [str(value)]


def _json(value: Any) -> str:
    """A value as `--method-arg` reads it: JSON, or else a string."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value)


def _placed(asked: Mapping[str, Any], here: Path) -> dict[str, Any]:
    """The settings with absolute paths, where they are paths and not names."""
    placed = dict(asked)
    inside = [*(asked[name] for name in ("train_split", "eval_split") if asked.get(name)), *_MARKS]
    for name in ("text", "image"):
        placed[name] = [_absolute(each, here, inside) for each in asked.get(name) or ()]
    placed["features"] = {key: _absolute(each, here, inside) for key, each in (asked.get("features") or {}).items()}
    placed["methods"] = [_placed_method(each, here) for each in asked.get("methods") or ()]
    for name in ("data", "init", "recipe"):
        if (value := asked.get(name)) and not (name == "recipe" and value in shipped()):
            placed[name] = _absolute(value, here)
    return placed


def _placed_method(name: str, here: Path) -> str:
    """`FILE.py:Class` with its file's whole path; any other name as it is."""
    path, colon, attribute = name.rpartition(":")
    return _absolute(path, here) + colon + attribute if path.endswith(".py") else name


def _absolute(value: str, here: Path, inside: Sequence[str] | None = None) -> str:
    """A path from the root, where `value` is one.

    Args:
        inside: a plain word is a path only where its folder has one of these; None: wherever there is one.
    """
    path = here / Path(value).expanduser()
    plain = Path(value).name == value
    found = path.exists() if inside is None or not plain else any((path / name).exists() for name in inside)
    return os.path.normpath(path.absolute()) if found else value  # links stay links


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
