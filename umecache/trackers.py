"""Figures to TensorBoard or Weights & Biases while a job runs, through Accelerate's trackers.

    with tracking("tensorboard", run="ume-0001", folder=Path("runs"), facts={"lr": 1e-3}) as tracker:
        tracker.log({"ume/seed-0/loss": 1.2}, step=3)

`tensorboard` writes to FOLDER/tensorboard/RUN; `wandb` logs a run of that name in the project "umecache" and is set up
by its own environment variables (`WANDB_MODE=offline`, ...). Both are optional: pip install 'umecache[track]'.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from umecache.errors import MissingExtra, UsageError

TRACKERS = ("tensorboard", "wandb")
PROJECT = "umecache"


class Tracker(Protocol):
    """Hears figures while a job runs."""

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Figures of a step or an epoch."""


class NoTracker:
    """Nobody listens."""

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Nothing."""


def check_tracker(name: str | None) -> None:
    """Refuse a tracker that is unknown or not installed, before any work is done.

    Raises:
        UsageError: unknown.
        MissingExtra: its package is not installed.
    """
    if name is None:
        return
    if name not in TRACKERS:
        raise UsageError(f"--tracker {name!r} is unknown.", why=f"Allowed: {', '.join(TRACKERS)}.")
    if importlib.util.find_spec(name) is None:
        raise MissingExtra(name, "track", purpose=f"--tracker {name}")


@contextlib.contextmanager
def tracking(name: str | None, *, run: str, folder: Path, facts: Mapping[str, Any]) -> Iterator[Tracker]:
    """A tracker for one job; None: one that does nothing.

    Args:
        run: how the job is called there.
        folder: where local files may go.
        facts: settings of the job; what is no plain value is told as JSON.

    Raises:
        UsageError, MissingExtra: as `check_tracker`.
    """
    check_tracker(name)
    if name is None:
        yield NoTracker()
        return
    from accelerate import PartialState
    from accelerate.tracking import TensorBoardTracker, WandBTracker

    PartialState()  # Accelerate's loggers ask it which process this is; a launched job has one already
    if name == "tensorboard":
        theirs = TensorBoardTracker(run, logging_dir=folder / "tensorboard")
    else:
        theirs = WandBTracker(PROJECT, name=run)
    if hasattr(theirs, "start"):  # earlier versions start when they are made
        theirs.start()
    try:
        theirs.store_init_configuration({key: _plain(value) for key, value in facts.items()})
        yield _Accelerated(theirs)
    finally:
        theirs.finish()


class _Accelerated:
    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        self._theirs.log(dict(values), step=step)


def _plain(value: Any) -> bool | int | float | str:
    if isinstance(value, bool | int | float | str):
        return value
    return "" if value is None else json.dumps(value, default=str)
