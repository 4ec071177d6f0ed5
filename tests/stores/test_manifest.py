"""Manifests: complete, readable, and never believed unchecked."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.stores.toy import FACTS, Toy, write
from umecache.stores import StoreDamaged, StoreError, open_store
from umecache.stores.manifest import COMPUTED, created, given, read_manifest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "s", Toy.make(), manifest={**FACTS, "note": "mine"})
    return tmp_path / "s"


def test_it_says_what_the_store_is(path: Path) -> None:
    manifest = read_manifest(path)
    assert manifest["format_version"] == 1
    assert manifest["recipe"] == {**FACTS["recipe"], "dtype": "float16"}  # type: ignore[dict-item]
    assert {key: manifest[key] for key in ("model", "modality", "dataset", "origin", "grid")} == {
        key: FACTS[key] for key in ("model", "modality", "dataset", "origin", "grid")
    }
    assert manifest["note"] == "mine"
    assert manifest["records"] == 24
    assert manifest["dtype"] == manifest["stored_dtype"] == "float16"
    assert manifest["failures"][-1]["reason"] == "no such file"
    assert {"id", "reason", "sha256", "tokens"} == set(manifest["failures"][0])
    assert sum(shard["records"] for shard in manifest["layout"]["shards"]) == manifest["distinct"]


def test_given_facts_make_the_same_manifest(path: Path, tmp_path: Path) -> None:
    facts = given(read_manifest(path))
    assert set(facts) & COMPUTED == {"umecache_version"}
    write(tmp_path / "t", Toy.make(), manifest=facts)
    assert (tmp_path / "t/manifest.json").read_bytes() == (path / "manifest.json").read_bytes()


def test_the_creation_time_is_the_file_s(path: Path) -> None:
    os.utime(path / "manifest.json", (1e9, 1e9))
    assert created(path) == open_store(path).manifest["created"] == "2001-09-09T01:46:40+00:00"
    assert "created" not in json.loads((path / "manifest.json").read_text())


def test_a_newer_format_is_no_damage(path: Path) -> None:
    change(path, format_version=2)
    with pytest.raises(StoreError, match=r"format 2.*pip install --upgrade umecache") as caught:
        read_manifest(path)
    assert not isinstance(caught.value, StoreDamaged)


def change(path: Path, **fields: Any) -> None:
    document = json.loads((path / "manifest.json").read_text()) | fields
    (path / "manifest.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    "fields",
    [
        {"format_version": "1"},
        {"format_version": True},
        {"fingerprint": "x" * 64},
        {"fingerprint": None},
        {"recipe_hash": "ab"},
        {"dtype": "object"},
        {"dtype": ["float16"]},
        {"format": "../zip"},
        {"format": {}},
        {"compression": "lzma"},
        {"id_type": 3},
        {"records": -1},
        {"records": 2**63},
        {"records": 24.0},
        {"dim": 0},
        {"recipe": []},
        {"failures": {}},
        {"failures": [{"id": None, "reason": "x", "tokens": 0}]},
        {"failures": [{"id": [1], "reason": "x", "tokens": 0}]},
        {"failures": [{"id": 1, "tokens": 0}]},
        {"layout": None},
        {"layout": {"shard_rows": 0, "chunk_rows": 1, "capacity": 0, "shards": []}},
        {"layout": {"shard_rows": 5, "chunk_rows": 2, "capacity": 0, "shards": []}},
        {"layout": {"shard_rows": 4, "chunk_rows": 2, "capacity": 8, "shards": []}},
        {
            "layout": {
                "shard_rows": 4,
                "chunk_rows": 2,
                "capacity": 4,
                "shards": [{"records": 1, "rows": 5, "files": []}],
            }
        },
        {
            "layout": {
                "shard_rows": 4,
                "chunk_rows": 2,
                "capacity": 4,
                "shards": [{"records": 0, "rows": 4, "files": []}],
            }
        },
        {
            "layout": {
                "shard_rows": 4,
                "chunk_rows": 2,
                "capacity": 4,
                "shards": [{"records": 1, "rows": 4, "files": [1]}],
            }
        },
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_nonsense_is_refused(path: Path, fields: dict[str, Any]) -> None:
    change(path, **fields)
    with pytest.raises(StoreDamaged, match=r"manifest\.json"):
        read_manifest(path)
    with pytest.raises(StoreDamaged):
        open_store(path)
