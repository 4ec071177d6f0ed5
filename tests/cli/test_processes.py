"""Heads dealt out among processes: the same run as one process makes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from umecache.cli.app import run
from umecache.cli.processes import in_processes
from umecache.errors import JobFailed, UsageError

QUICK = (
    "--methods concat,ume --seeds 0,1 --epochs 2 --width 8 --batch-size 4 --dropout 0.3 --lr auto --lr-grid 1e-3,1e-2"
)


def test_two_processes_make_the_run_of_one(tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ["compare", *tiny, *QUICK.split(), "--holdout", "0.4", "--json"]
    two, one = tmp_path / "two", tmp_path / "one"
    done = subprocess.run(
        [sys.executable, "-m", "umecache", *said, "--devices", "cpu:2", "--out", str(two)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, "the other process has to come through, too"
    assert run([*said, "--devices", "cpu", "--out", str(one)]) == 0
    rows, expected = (json.loads(text)["rows"] for text in (done.stdout, capsys.readouterr().out))
    for row, other in zip(rows, expected, strict=True):
        assert (row["method"], row["mean"], row["lr_tried"]) == (other["method"], other["mean"], other["lr_tried"])
    weights = sorted(path.relative_to(two) for path in two.rglob("model.safetensors"))
    assert len(weights) == 4
    for path in weights:
        assert (two / path).read_bytes() == (one / path).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} >= {"two", "one"}
    assert not list(tmp_path.glob(".*.unfinished"))


def test_one_device_is_this_process() -> None:
    assert in_processes("auto", lambda: 3) == in_processes("cpu", lambda: 3) == 3


def test_only_the_main_process_explains_bad_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong() -> int:
        raise error

    monkeypatch.setenv("WORLD_SIZE", "2")
    for error, rank, said in (
        (UsageError("No such store."), "1", ""),
        (JobFailed("It broke."), "1", "process 1: It broke."),
    ):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(typer.Exit) as left:
            in_processes("cpu", wrong)
        assert left.value.exit_code == error.exit_status
        assert said in capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(JobFailed):
        in_processes("cpu", wrong)
