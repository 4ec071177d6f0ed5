"""Progress among processes, the log file, trackers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from umecache.errors import UsageError
from umecache.extraction import watch as watch_module
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.devices import Place
from umecache.extraction.shares import Shares
from umecache.extraction.watch import watching
from umecache.stores import Writer, open_writer


class Told:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done = 0.0
        self.facts: dict[str, object] = {}

    def say(self, line: str) -> None:
        self.lines.append(line)

    def task(self, label: str, total: float | None, unit: str = "items") -> Told:
        return self

    def advance(self, n: float = 1, **facts: object) -> None:
        self.done += n
        self.facts |= facts

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def _config(**changes: Any) -> ExtractConfig:
    return ExtractConfig(models=(ModelRequest(name="vit"),), **changes)


def _place(index: int = 0, processes: int = 1) -> Place:
    return Place(torch.device("cpu"), index, processes)


def _writer(path: Path) -> Writer:
    digests = [f"{n:064x}" for n in range(6)]
    return open_writer(
        path, manifest={"recipe": {}}, ids=range(6), digests=digests, lengths=[2] * 6, dim=4, shard_records=2
    )


def _finish_one(writer: Writer) -> None:
    shard = writer.take(writer.done)
    assert shard is not None
    with shard:
        for position in shard.records:
            shard.write(position, np.zeros((2, 4), np.float32))


def test_the_bar_counts_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "TICK", 0.0)
    writer, told = _writer(tmp_path / "s"), Told()
    _finish_one(writer)
    with (
        watching(_config(), told, _place(0, 2)) as watch,
        watch.progress(writer, "vit train", "images", Shares()) as bar,
    ):
        assert told.done == 2, "an earlier run's"
        bar.told(1)
        assert told.done == 3
        _finish_one(_writer(tmp_path / "s"))  # another process
        bar.told(0)
        assert told.done == 4
        assert told.facts["this process"] == "1"
        bar.told(5)
        assert told.done == 6, "never more than there are"
    assert bar.mine == 6


def test_the_log_has_a_file_per_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "TICK", 0.0)
    monkeypatch.setattr(watch_module, "LOG_SECONDS", 0.0)
    writer, path = _writer(tmp_path / "s"), tmp_path / "logs" / "run.log"
    for index in range(2):
        with watching(_config(log=path), Told(), _place(index, 2)) as watch:
            watch.say("a remark")
            with watch.progress(writer, "vit train", "images", Shares()) as bar:
                bar.told(3)
    for file in (path, path.with_name("run.log.1")):
        lines = file.read_text().splitlines()
        assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S* ", line) for line in lines)
        assert "a remark" in lines[1]
        assert "vit train: 3 of 6 images, 3 here" in lines[2]
    assert "process 1 of 2" in path.with_name("run.log.1").read_text()
    with pytest.raises(KeyError), watching(_config(log=path), Told(), _place()):
        raise KeyError("boom")
    assert "stopped: 'boom'" in path.read_text().splitlines()[-1], "and a second run adds to it"


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--log"), watching(_config(log=tmp_path), Told(), _place()):
        pass


def test_trackers_get_points_and_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points: list[tuple[int, Mapping[str, float]]] = []
    ended: list[bool] = []

    class Fake:
        def log(self, values: Mapping[str, float], *, step: int) -> None:
            points.append((step, values))

    @contextmanager
    def tracking(name: str | None, *, run: str, folder: Path, facts: Mapping[str, Any]) -> Iterator[Fake]:
        assert (name, run, facts["models"]) == ("fake", "umecache-extract", "vit")
        yield Fake()
        ended.append(True)

    monkeypatch.setattr(watch_module, "tracking", tracking)
    monkeypatch.setattr(watch_module, "TICK", 0.0)
    writer = _writer(tmp_path / "s")
    with (
        watching(_config(tracker="fake"), Told(), _place()) as watch,
        watch.progress(writer, "vit train", "images", Shares()) as bar,
    ):
        bar.told(2)
        bar.told(2)
    assert [(step, figures["records"]) for step, figures in points] == [(1, 2), (2, 4)]
    assert {"records_per_second", "read", "encode", "write"} < points[0][1].keys()
    assert ended == [True]


def test_a_tracker_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="pen"), watching(_config(tracker="pen"), Told(), _place()):
        pass
