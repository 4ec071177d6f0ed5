"""What a stopped training goes on from: the state of all heads of a pass, between two steps, in one file.

    keeper = Checkpoints(folder, seconds=300).of("heads")
    epoch, done = keeper.restore(heads)          # (0, 0) where nothing was kept
    if keeper.due(): keeper.save(heads, epoch, done)
    keeper.finish(heads, answers_HQ)

A checkpoint is a safetensors file: tensors of every head, and the plain facts as JSON in its header. It is written to a
temporary name, synced and renamed, so there is always a whole one. Everything random comes from seeds and from the
states kept here, so on the CPU a training that was killed ends with the same bits as one that was not.

Several processes share a pass by heads: each keeps its own file, and reads the others' when they are done.

Shapes: H heads, Q questions.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from umecache.errors import DataError, JobFailed
from umecache.training.head import Head
from umecache.training.locks import held, lock
from umecache.training.targets import Index

COST = 20  # a checkpoint is not due before training has taken so many times as long as writing the last one
WORTH = 10.0  # seconds that the only pass of a run must have taken for its end to be kept
START_SECONDS = 600.0  # how long other processes may take to start
SUFFIX, BUILDING = ".safetensors", ".building"


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Those of one run.

    Attributes:
        folder: where they lie; None: nothing is kept.
        seconds: between two of one pass.
        process, processes: which of several processes this is; heads are dealt out among them.
        always: a pass that is over is kept however short it was; among several processes, since the others wait for
            it, and in a grid of many passes.
    """

    folder: Path | None = None
    seconds: float = 300.0
    process: int = 0
    processes: int = 1
    always: bool = False

    def of(self, name: str, process: int | None = None) -> Keeper:
        """The checkpoint of a pass: this process's, or another one's."""
        if self.folder is None:
            return Keeper(None, self.seconds)
        index = self.process if process is None else process
        part = f"-{index}of{self.processes}" if self.processes > 1 else ""
        always = self.always or self.processes > 1
        return Keeper(self.folder / f"{name}{part}{SUFFIX}", self.seconds, always=always)

    def drop(self) -> None:
        """Keep nothing of any pass."""
        for file in self.folder.glob(f"*{SUFFIX}") if self.folder is not None else ():
            file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """Inside, the other processes see that this one lives."""
        if self.folder is None or self.processes == 1:
            yield
            return
        with lock(self._sign(self.process)):
            yield

    def wait(self, name: str, process: int) -> Keeper:
        """Another process's finished checkpoint, as soon as it is there.

        Raises:
            JobFailed: that process died.
        """
        keeper, started, dead = self.of(name, process), time.monotonic(), False
        while not keeper.finished:
            sign = self._sign(process)
            late = time.monotonic() - started > START_SECONDS
            if dead or (late and not sign.exists()):
                raise JobFailed(
                    f"Process {process} of {self.processes} ended before its heads were trained.",
                    next="run the same command again to go on",
                )
            # Once more round: it may have finished between the two looks.
            dead = sign.exists() and not held(sign)
            time.sleep(0.05)
        return keeper

    def _sign(self, process: int) -> Path:
        assert self.folder is not None
        return self.folder / f"process-{process}.lock"


class Keeper:
    """The checkpoint of one pass in one process.

    Args:
        path: its file; None: nothing is kept.
        seconds: between two.
        always: whether a finished pass is kept however short it was.
    """

    def __init__(
        self, path: Path | None, seconds: float, *, always: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path, self._seconds, self._always, self._clock = path, seconds, always, clock
        self._begun = self._last = clock()
        self._cost = 0.0
        self._kept = False  # in this process

    @property
    def finished(self) -> bool:
        """The pass is over, and kept."""
        facts = self._facts()
        return facts is not None and bool(facts["finished"])

    def due(self) -> bool:
        """Whether it is time for the next."""
        return self.path is not None and self._clock() - self._last >= max(self._seconds, COST * self._cost)

    def restore(self, heads: Sequence[Head]) -> tuple[int, int]:
        """Bring heads to where they were; the epoch (from 0) and the number of its questions that are done.

        Raises:
            DataError: a file that can't be read.
        """
        facts = self._facts()
        if facts is None:
            return 0, 0
        parts: list[dict[str, torch.Tensor]] = [{} for _ in heads]
        with self._open() as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                head, _, rest = name.partition("/")
                if head.isdecimal():
                    parts[int(head)][rest] = file.get_tensor(name)
        for head, tensors, kept in zip(heads, parts, facts["heads"], strict=True):
            head.load_state(tensors, kept)
        self._kept = True
        return int(facts["epoch"]), int(facts["done"])

    def answers(self) -> Index | None:
        """What the heads answered [H, Q], where the pass is finished."""
        facts = self._facts()
        if facts is None or not facts["finished"] or not facts["answered"]:
            return None
        with self._open() as file:
            found: Index = file.get_tensor("answers").numpy()
        return found

    def save(self, heads: Sequence[Head], epoch: int, done: int) -> None:
        """Keep the state between two steps."""
        self._write(heads, {"epoch": epoch, "done": done, "finished": False, "answered": False}, {})

    def finish(self, heads: Sequence[Head], epochs: int, answers_HQ: Index | None = None) -> None:
        """Keep the trained heads and what they answered, so that this pass need not be done again."""
        took = self._clock() - self._begun
        if self._kept or self._always or took >= min(self._seconds, WORTH):
            tensors = {} if answers_HQ is None else {"answers": torch.from_numpy(answers_HQ)}
            facts = {"epoch": epochs, "done": 0, "finished": True, "answered": answers_HQ is not None}
            self._write(heads, facts, tensors)

    def drop(self) -> None:
        """Keep nothing: this pass can't be gone on with."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _write(self, heads: Sequence[Head], facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        if self.path is None:
            return
        started = self._clock()
        told = []
        for number, head in enumerate(heads):
            named, kept = head.state()
            told.append(kept)
            # Cloned: safetensors takes no tensors that share memory.
            tensors |= {
                f"{number}/{name}": value.detach().to("cpu", copy=True).contiguous() for name, value in named.items()
            }
        # A name of this process: on a cluster, one that was given up may still be writing.
        building = self.path.with_name(f".{self.path.name}.{socket.gethostname()}-{os.getpid()}{BUILDING}")
        try:
            save_file(tensors, building, metadata={"facts": json.dumps({**facts, "heads": told})})
        except SafetensorError as error:
            building.unlink(missing_ok=True)
            raise JobFailed(f"The checkpoint {self.path} can't be written.", why=f"{error}.") from error
        _sync(building)
        building.replace(self.path)
        _sync(self.path.parent)
        self._kept, self._last = True, self._clock()
        self._cost = self._last - started

    def _facts(self) -> dict[str, Any] | None:
        if self.path is None or not self.path.exists():
            return None
        with self._open() as file:
            try:
                facts: dict[str, Any] = json.loads(file.metadata()["facts"])
            except (KeyError, TypeError, ValueError) as error:
                raise _damaged(self.path) from error
        return facts

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        assert self.path is not None
        try:
            with safe_open(self.path, framework="pt") as file:
                yield file
        except (SafetensorError, OSError) as error:
            raise _damaged(self.path) from error


def _damaged(path: Path) -> DataError:
    return DataError(f"The checkpoint {path} can't be read.", next="--overwrite starts the run anew")


def _sync(path: Path) -> None:
    """Make sure that a file, or a folder's names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
