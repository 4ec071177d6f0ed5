"""A supervisor that kills `umecache compare` at a step of its choice, starts it again, and compares what it ends with.

    python -m tests.training.faults FOLDER --rounds 100 --seed 0

The grid: two text stores, an image store, two methods, two seeds. A step is a call that changes files (open for
writing, before and after; mkdir, fsync, rename, replace, unlink, rmdir) or a step of training; a process is killed
(SIGKILL) before one of them. Each round kills one process or several in a row, then lets one finish. Checked each time:
passes that were finished are not trained again. At the end of each round: all files are those of an uninterrupted run,
byte by byte, but for how much was read. Prints one JSON line.

Clocks stand still in the processes that are killed, so that times are no difference. A program of its own: it forks.
"""

from __future__ import annotations

import argparse
import builtins
import io
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fontTools.subset
import rich.console
import torch
import torch._dynamo
from matplotlib.figure import Figure

from tests.training.conftest import build_world, text_digests, text_items, write_store
from umecache.analysis import page
from umecache.api import calls
from umecache.cli.app import run
from umecache.training import job
from umecache.training.checkpoint import Keeper
from umecache.training.head import Head

CHANGING = ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir")
VARIES = ("bytes_read", "reading", "overwrite")  # a run that goes on reads less


class Counter:
    """Counts the steps of this process; ends it before the last of them."""

    def __init__(self, last: int | None) -> None:
        self.steps, self._last = 0, last

    def __call__(self) -> None:
        self.steps += 1
        if self.steps == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, owner: Any, name: str) -> None:
        plain = getattr(owner, name)

        def act(*args: Any, **named: Any) -> Any:
            self()
            return plain(*args, **named)

        setattr(owner, name, act)

    def install(self) -> None:
        for name in CHANGING:
            self.watch(os, name)
        self.watch(Head, "step")
        plain = io.open

        def opening(file: Any, mode: str = "r", *args: Any, **named: Any) -> Any:
            writes = bool(set(mode) & set("wax+"))
            if writes:
                self()
            opened = plain(file, mode, *args, **named)
            if writes:
                self()  # an empty file is there now
            return opened

        io.open = opening  # type: ignore[assignment]
        builtins.open = opening  # type: ignore[assignment]


def child(argv: Sequence[str], notes: Path, last: int | None) -> int:
    """A process that runs the command; it notes its passes and, where it ends, its steps and its exit status."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        descriptor = os.open(notes / "output", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        trained = os.open(notes / "trained", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        time.perf_counter = lambda: 0.0  # type: ignore[assignment]
        time.strftime = lambda *_: "20260101-000000"  # type: ignore[assignment]
        plain = job.train

        def train(*args: Any, keeper: Keeper, **named: Any) -> None:
            if keeper.path is not None and not keeper.finished:
                os.write(trained, f"{keeper.path.name}\n".encode())
            plain(*args, keeper=keeper, **named)

        job.train = train  # type: ignore[assignment]
        # An empty figure stands for six, one picture for eight: drawing would take most of the time.
        page._figures = lambda document: {"accuracy": Figure(figsize=(1, 1))}
        page._PANELS = 1  # type: ignore[misc]
        counter = Counter(last)
        counter.install()
        status = run(argv)
        os.write(os.open(notes / "steps", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), str(counter.steps).encode())
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        os._exit(status)


def tree(folder: Path) -> dict[str, Any]:
    """Every file, by name: its bytes; of JSON, what it says but for what varies."""
    found: dict[str, Any] = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            name = str(file.relative_to(folder))
            found[name] = _plain(json.loads(file.read_text())) if file.suffix == ".json" else file.read_bytes()
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if key not in VARIES}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def has_report(out: Path) -> bool:
    return (out / "compare.json").is_file() and "html" in json.loads((out / "compare.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # also keeps the forks safe: no thread pool is inherited
    # What a first run loads late is loaded once, before the forks.
    assert all((calls.compare, torch._dynamo, rich.console, fontTools.subset))
    rng = random.Random(arguments.seed)
    folder = arguments.folder
    world = build_world(folder, train=24, val=9)
    other = folder / "stores" / "roberta-00000000"
    for name, records in world.splits.items():
        write_store(other / name, "text", text_items(records), digests=text_digests(records), model="roberta")
    out, work = folder / "runs" / "grid", folder / "runs" / ".grid.unfinished"
    argv = ["compare", "--data", str(world.data), "--text", str(world.text), "--text", str(other), "--seeds", "2"]
    argv += ["--image", str(world.image), "--methods", "text-only,ume-res", "--epochs", "6", "--width", "8"]
    argv += ["--batch-size", "24", "--checkpoint-minutes", "0.00001", "--devices", "cpu", "--out", str(out), "--json"]

    def start(last: int | None = None, *, seconds: float | None = None, overwrite: bool = False) -> int:
        """The wait status of a process that was killed, or ended by itself."""
        pid = child([*argv, *(["--overwrite"] if overwrite else [])], folder, last)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(pid, signal.SIGKILL)
        return os.waitpid(pid, 0)[1]

    begun = time.monotonic()
    assert start() == 0, (folder / "output").read_text()
    span, steps = time.monotonic() - begun, int((folder / "steps").read_text())
    shutil.copytree(out, folder / "whole")
    whole = tree(folder / "whole")
    places = rng.sample(range(1, steps + 1), min(arguments.rounds, steps))  # where the first of a round is killed
    tally: dict[str, Any] = dict.fromkeys(
        ("rounds", "killed", "at_a_time", "partial", "passes_kept", "before_report", "before_in_place"), 0
    )
    for place in places:
        if not (replaces := rng.random() < 0.3):  # else it replaces the run of the round before
            shutil.rmtree(out)
        tally["rounds"] += 1
        again: Callable[[], int] = lambda replaces=replaces: start(overwrite=replaces)  # noqa: E731
        if rng.random() < 0.2:
            status = start(seconds=rng.uniform(0, span), overwrite=replaces)
            tally["at_a_time"] += os.WIFSIGNALED(status)
        else:
            status = start(place, overwrite=replaces)
        while True:
            tally["killed"] += os.WIFSIGNALED(status)
            said = (folder / "output").read_text()
            assert os.WIFSIGNALED(status) or status == 0, said
            if status == 0:
                break
            done = [file.name for file in work.glob("heads-*.safetensors") if Keeper(file, 1.0).finished]
            tally["partial"] += len(list(work.glob("heads-*.safetensors"))) > len(done)
            tally["passes_kept"] += len(done)
            tally["before_in_place"] += (work / "run" / "job.json").exists()
            trained = out.is_dir() and any(out.iterdir()) and not has_report(out)
            tally["before_report"] += trained
            if has_report(out) and not work.exists() and not replaces:
                break  # killed after its last file: there is nothing to go on with
            status = start(rng.randint(1, steps), overwrite=replaces) if rng.random() < 0.4 else again()
            ran = (folder / "trained").read_text().split()
            assert not set(ran) & set(done), f"finished passes were trained again: {ran}, finished {done}"
            assert not (trained and ran), "a comparison that lacked its report only was trained again"
        found = tree(out)
        assert found.keys() == whole.keys(), sorted(found.keys() ^ whole.keys())
        assert found == whole, [name for name in whole if found[name] != whole[name]]
        assert [each.name for each in out.parent.iterdir()] == ["grid"], list(out.parent.iterdir())
    tally |= {"steps": steps, "files": len(whole), "seconds": round(time.monotonic() - begun, 1)}
    print(json.dumps(tally))


if __name__ == "__main__":
    main()
