"""Calls on several devices: the results of one process, and errors that come home."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import umecache
from umecache.api import members
from umecache.api.members import in_members
from umecache.errors import JobFailed, UsageError
from umecache.stores import open_store


def test_two_processes_make_the_same_store(sample_run: SimpleNamespace, tmp_path: Path) -> None:
    made = umecache.extract(
        "sample-text", data=sample_run.data, split="val", store=tmp_path / "text", devices="cpu:2", workers=1
    )
    assert [(each.split, each.records) for each in made] == [("val", 120)]
    assert open_store(made[0].path).fingerprint == open_store(sample_run.stores["text"] / "val").fingerprint


def test_a_mistake_comes_home(sample_run: SimpleNamespace, tmp_path: Path) -> None:
    said: dict[str, Any] = {"data": sample_run.data, "text": tmp_path / "nowhere", "method": "text-only"}
    with pytest.raises(UsageError, match=r"No store at .*nowhere"):
        umecache.fuse(**said, devices="cpu:2", out=tmp_path / "run")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What processes are given, and what they are to answer, without starting any."""
    box: dict[str, Any] = {"status": 0, "answer": None}

    def start(devices: list[str], argv: list[str], *, module: str) -> int:
        box["request"] = json.loads(Path(argv[0]).read_text())
        if box["answer"] is not None:
            Path(argv[0]).with_name("result.json").write_text(json.dumps(box["answer"]))
        return int(box["status"])

    monkeypatch.setattr(members, "start_processes", start)
    return box


def test_requests_are_plain(started: dict[str, Any], sample_run: SimpleNamespace) -> None:
    import numpy as np

    store = open_store(sample_run.stores["text"] / "val")
    started["answer"] = {"result": {"path": "r", "document": {}}}
    given = {"text": store, "image": Path("here"), "seeds": (np.int64(3),), "method_args": {"heads": 2}}
    assert in_members("fuse", ["cpu", "cpu"], given) == {"path": "r", "document": {}}
    assert started["request"] == {
        "call": "fuse",
        "arguments": {
            "text": str(sample_run.stores["text"]),
            "image": str(Path("here").absolute()),
            "seeds": [3],
            "method_args": {"heads": 2},
        },
    }


def test_processes_that_fail_or_die(started: dict[str, Any]) -> None:
    error = {"what": "no room", "why": "full", "next": "gc"}
    started |= {"status": 1, "answer": {"error": error, "status": 1}}
    with pytest.raises(JobFailed, match="no room full gc"):
        in_members("extract", ["cpu", "cpu"], {})
    started |= {"status": 9, "answer": None}
    with pytest.raises(JobFailed, match="main of 2 processes ended with status 9"):
        in_members("extract", ["cpu", "cpu"], {})


def test_one_member_by_itself(tmp_path: Path, sample_run: SimpleNamespace) -> None:
    request = tmp_path / "request.json"
    arguments = {"method": "text-only", "data": str(sample_run.data), "text": str(sample_run.stores["text"])}
    small = {"epochs": 1, "width": 8, "devices": "cpu", "out": str(tmp_path / "run")}
    request.write_text(json.dumps({"call": "fuse", "arguments": {**arguments, **small}}))
    assert members.main(request) == 0
    told = json.loads((tmp_path / "result.json").read_text())["result"]
    assert (told["path"], told["document"]["method"]) == (str(tmp_path / "run"), "text-only")
    assert members.main(request) == 2, "the run folder is taken"
    assert "error" in json.loads((tmp_path / "result.json").read_text())
    request.write_text(json.dumps({"call": "eval", "arguments": {}}))
    with pytest.raises(KeyError):
        members.main(request)
