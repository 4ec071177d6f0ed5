"""Where numbers come from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from umecache.analysis.evidence import read_document
from umecache.analysis.provenance import command, provenance, sources
from umecache.cli.app import build
from umecache.data.dataset import Split


def test_stores_are_named_once_with_who_read_them(finished: tuple[Path, Split]) -> None:
    document = read_document(finished[0])
    document["provenance"] = provenance(document, finished[0])
    runs, stores = sources(document)
    assert [row["run"] for row in runs.rows] == [f"runs/{name}" for name in ("text-only", "concat", "ume", "ume-res")]
    assert runs.rows[0]["no image"] == 3 and len(stores.rows) == 4
    assert {row["fingerprint"] for row in stores.rows} == {64 * "a", 64 * "b"}
    assert {row["rows"] for row in stores.rows} == {"all"}
    document["provenance"][0]["stores"] = []
    assert sources(document)[1].rows[0]["rows"] == "concat, ume, ume-res"


def test_the_command_is_one_that_compare_takes() -> None:
    import typer.main

    asked = {
        "data": "my data", "methods": ["concat", "./mine.py:Mine"], "text": ["bert", "roberta"],
        "seeds": [7], "lr": "auto", "method_args": {"ume.pairs": "all"}, "features": {"audio": "stores/a"},
        "device": "cpu", "epochs": 5,
        "dropout": 0.1, "limit": None, "out": "x", "overwrite": True, "recipe": "thesis-a",
    }  # fmt: skip
    words = shlex.split(command({"asked": asked}))
    known: Any = typer.main.get_command(build())
    options = {name for each in known.commands["compare"].params for name in each.opts}
    assert {word for word in words if word.startswith("--")} <= options
    assert words[2:6] == ["--data", "my data", "--methods", "concat,./mine.py:Mine"]
    assert words[words.index("--seeds") + 1] == "7," and "--dropout" not in words and "--out" not in words
    assert words.count("--text") == 2 and words[words.index("--devices") + 1] == "cpu"
