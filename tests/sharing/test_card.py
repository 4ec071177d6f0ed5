"""The card: true, complete, and not to be broken out of by a manifest."""

from __future__ import annotations

import json
from pathlib import Path

from tests.stores.toy import FACTS, Toy, write
from umecache.sharing.card import MARK, card, index
from umecache.stores import open_store


def test_says_what_it_is(store: Path) -> None:
    opened = open_store(store)
    text = card({"": opened}, url="s3://lab/vit", licence="mit")
    head, body = text.removeprefix("---\n").split("\n---\n")
    facts = dict(line.split(": ", 1) for line in head.splitlines())
    assert json.loads(facts["license"]) == "mit"
    assert "umecache" in json.loads(facts["tags"])
    for part in (
        MARK,
        opened.fingerprint,
        "float16",
        "toy",
        "train",
        "umecache store pull s3://lab/vit STORE",
        "layers",
    ):
        assert part in body
    assert f"| {len(opened):,} |" in body


def test_the_licence_of_the_manifest(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy, manifest={**FACTS, "origin": {"license": "apache-2.0"}})
    assert 'license: "apache-2.0"' in card({"": open_store(tmp_path / "s")})
    write(tmp_path / "t", toy)
    text = card({"": open_store(tmp_path / "t")})
    assert 'license: "unknown"' in text
    assert "names no licence" in text


def test_a_manifest_can_not_break_out(tmp_path: Path, toy: Toy) -> None:
    evil = "x\n---\n# head `code` | <script>"
    write(tmp_path / "s", toy, manifest={**FACTS, "model": evil, "dataset": {"name": evil, "split": evil}})
    text = card({"val": open_store(tmp_path / "s")})
    assert text.count("\n---\n") == 1
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert all(line.count("|") - line.count("\\|") == 10 for line in text.splitlines() if line.startswith("| `val`"))


def test_index(store: Path) -> None:
    (row,) = index({"val": open_store(store)})
    assert (row["path"], row["split"], row["records"]) == ("val", "train", 40)
    assert row["bytes"] == sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
