"""Watching an extraction: overall progress among processes, a log file, a tracker.

    with watching(config, reporter, place) as watch:
        with watch.progress(writer, "vit train", "images", shares) as progress:
            progress.told(16)

What is shown counts the records of all processes: finished shards are seen in the store itself, so nothing is sent.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from umecache.errors import UsageError
from umecache.extraction.config import ExtractConfig
from umecache.extraction.devices import Place
from umecache.extraction.shares import Shares
from umecache.reporting import Reporter, Task
from umecache.stores import Writer
from umecache.trackers import Tracker, tracking

TICK = 2.0  # seconds between looks at what other processes have finished, and between points of a tracker
LOG_SECONDS = 30.0  # between progress lines of a log file


class Watch:
    """Where the news of one process goes."""

    def __init__(self, reporter: Reporter, place: Place, log: LogFile | None, tracker: Tracker) -> None:
        self.reporter, self.place, self._log, self._tracker = reporter, place, log, tracker
        self._step = 0

    def say(self, line: str) -> None:
        """One remark: to the reporter and the log file."""
        self.reporter.say(line)
        if self._log is not None:
            self._log.line(line)

    def log(self, line: str) -> None:
        """One line for the log file alone."""
        if self._log is not None:
            self._log.line(line)

    def track(self, **figures: float) -> None:
        """One point of a tracker's curves."""
        self._step += 1
        self._tracker.log(figures, step=self._step)

    @contextmanager
    def progress(self, writer: Writer, label: str, item: str, shares: Shares) -> Iterator[Progress]:
        """A bar over all records of a store, whoever encodes them."""
        with self.reporter.task(label, len(writer.plan.first), item) as task:
            yield Progress(self, task, writer, label, item, shares)


class Progress:
    """One bar, and the same as lines of the log and points of the tracker."""

    def __init__(self, watch: Watch, task: Task, writer: Writer, label: str, item: str, shares: Shares) -> None:
        self.mine = 0  # records that this process has encoded
        self._watch, self._task, self._writer = watch, task, writer
        self._label, self._item, self._shares = label, item, shares
        self._before = writer.finished_records  # of earlier runs, and of processes that were quicker to start
        self._shown = 0
        self._started = self._ticked = self._logged = time.monotonic()
        self._show(self._before)

    def told(self, count: int) -> None:
        """`count` more records are encoded."""
        self.mine += count
        now = time.monotonic()
        overall = self._before + self.mine
        if now - self._ticked >= TICK:
            self._ticked = now
            overall = max(overall, self._writer.finished_records)
            rate = self.mine / max(now - self._started, 1e-9)
            shares = self._shares.fractions()
            self._watch.track(records=overall, records_per_second=rate, **{str(k): v for k, v in shares.items()})
            if now - self._logged >= LOG_SECONDS:
                self._logged = now
                self._watch.log(
                    f"{self._label}: {overall:,} of {len(self._writer.plan.first):,} {self._item}, {self.mine:,} here,"
                    f" {rate:,.1f}/s here, {self._gigabytes(overall):.2f} GB; {self._shares.words()}"
                )
        self._show(overall)

    def _show(self, overall: int) -> None:
        overall = min(overall, len(self._writer.plan.first))
        facts: dict[str, object] = {"GB": self._gigabytes(overall)}
        if self._watch.place.processes > 1:
            facts["this process"] = f"{self.mine:,}"
        if self.mine:
            facts["time:"] = self._shares.words()
        self._task.advance(max(0, overall - self._shown), **facts)
        self._shown = max(overall, self._shown)

    def _gigabytes(self, records: int) -> float:
        return self._writer.bytes * records / max(len(self._writer.plan.first), 1) / 1e9


class LogFile:
    """Lines with the time before them, added to a file."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--log {path} can't be written.", why=error.strerror or "", next="--log FILE") from error

    def line(self, text: str) -> None:
        """One line, there at once."""
        self._file.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {text}\n")
        self._file.flush()

    def close(self) -> None:
        """The end."""
        self._file.close()


@contextmanager
def watching(config: ExtractConfig, reporter: Reporter, place: Place) -> Iterator[Watch]:
    """Open the log and the tracker that `config` asks for, and close them.

    Raises:
        MissingExtra: the tracker's package is not installed.
        UsageError: no such tracker; a log file that can't be written.
    """
    log = None
    if config.log is not None:
        log = LogFile(config.log if place.is_main else config.log.with_name(f"{config.log.name}.{place.index}"))
        log.line(f"umecache extract, process {place.index} of {place.processes} ({os.getpid()}), {place.device}")
    facts = {"models": ",".join(model.name for model in config.models), "data": str(config.data), "dtype": config.dtype}
    folder = (config.log.parent if config.log else Path.cwd()) / "tracking"
    try:
        with tracking(
            config.tracker if place.is_main else None, run="umecache-extract", folder=folder, facts=facts
        ) as tracker:
            yield Watch(reporter, place, log, tracker)
    except BaseException as error:
        if log is not None:
            log.line(f"stopped: {error or type(error).__name__}")
        raise
    finally:
        if log is not None:
            log.close()
