"""A supervisor that kills writers at random moments and watches what they leave behind.

    python -m tests.stores.faults FOLDER --rounds 100 --writers 2 --format zarr --seed 0

Each round forks writers of one store with the NumPy encoder and kills them (SIGKILL, SIGTERM) after a random time,
until one round lets them finish; then the next store begins. Checked after every kill: no finished shard is lost or
written again, nothing partial can be opened. At the end of every store: the bytes of an uninterrupted one. Prints one
JSON line.

A program of its own: forks need a process without threads.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.stores.toy import Toy, begin, tree, write
from umecache.stores import StoreIncomplete, StoreMissing, StoreWriteFailed, open_store
from umecache.stores.receipts import read_receipt
from umecache.stores.verify import verify


def encode_all(path: Path, toy: Toy, pause: float, **options: Any) -> None:
    """What an extraction does, with a pause per record so that kills fall inside the writing."""
    writer = begin(path, toy, **options)
    for shard in writer.claim():
        with (path.parent / "encoded").open("a") as log:
            log.write(f"{shard.index}\n")
        with shard:
            for position in shard.records:
                time.sleep(pause)
                if toy.content[position] in toy.broken:
                    shard.fail(position, "not an image", "ab" * 32)
                else:
                    shard.write(position, toy.encode(toy.content[position]))
    writer.seal()


def fork(path: Path, toy: Toy, pause: float, limit: int | None = None, **options: Any) -> int:
    """A child that writes; exit status 0 done, 3 a full disk told in one line, 1 anything else."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        encode_all(path, toy, pause, **options)
        status = 0
    except StoreWriteFailed as error:
        status = 3 if "\n" not in str(error) and ("safe" in error.why or "Nothing" in error.why) else 1
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        os._exit(status)


def fork_reader(path: Path, toy: Toy) -> int:
    """A child that opens the store again and again while others write it; exit status 100 + n once it was
    whole, after n times (at most 100) of hearing that it is not complete."""
    pid = os.fork()
    if pid:
        return pid
    status, early = 1, 0
    try:
        whole = open_store(path.parent / "whole")
        while True:
            try:
                store = open_store(path)
                break
            except (StoreIncomplete, StoreMissing):  # anything else means that something half-done was visible
                early += 1
                time.sleep(0.002)
        assert all(np.array_equal(store[name], whole[name]) for name in toy.ids)
        status = 100 + min(early, 100)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        os._exit(status)


def state(path: Path) -> dict[str, tuple[int, int]]:
    """Files of finished shards (those with a receipt), with what would show that they were written again."""
    found: dict[str, tuple[int, int]] = {}
    for file in sorted((path / "receipts").glob("*.json")):
        receipt = read_receipt(path, int(file.stem))
        for name in [f"receipts/{file.name}", *(fact.path for fact in receipt.files)]:
            status = (path / name).stat()
            found[name] = status.st_ino, status.st_mtime_ns
    return found


def check_partial(path: Path, toy: Toy) -> bool:
    """An interrupted store opens as complete and right, or not at all; returns whether it is complete."""
    try:
        store = open_store(path)
    except StoreIncomplete:
        return False
    except StoreMissing:
        assert not any(path.iterdir())
        return False
    whole = open_store(path.parent / "whole")
    assert all(np.array_equal(store[name], whole[name]) for name in toy.ids)
    return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--writers", type=int, default=1)
    parser.add_argument("--format", default="zarr")
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--pause", type=float, default=0.001)
    parser.add_argument("--limit", type=int, help="RLIMIT_FSIZE of every other round, in bytes")
    parser.add_argument("--calm", action="store_true", help="nobody is killed")
    parser.add_argument("--readers", type=int, default=0, help="open the store all the time; with --calm")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    toy = Toy.make(ids=40, distinct=30, dim=5)
    options = {"format": arguments.format, "dtype": arguments.dtype}
    write(arguments.folder / "whole", toy, **options)
    whole = tree(arguments.folder / "whole")
    path = arguments.folder / "s"
    (arguments.folder / "encoded").touch()
    started = time.monotonic()
    encode_all(path, toy, arguments.pause, **options)
    span = time.monotonic() - started
    shutil.rmtree(path)
    (arguments.folder / "encoded").write_text("")
    tally: dict[str, Any] = dict.fromkeys(("rounds", "killed", "stores", "full"), 0) | {"interrupted_with": [0] * 7}
    while tally["rounds"] < arguments.rounds:
        tally["rounds"] += 1
        before = state(path) if path.exists() else {}
        limit = arguments.limit if rng.random() < 0.5 else None
        readers = [fork_reader(path, toy) for _ in range(arguments.readers)]
        pids = [fork(path, toy, arguments.pause, limit, **options) for _ in range(arguments.writers)]
        if rng.random() < 0.85 and limit is None and not arguments.calm:
            time.sleep(rng.uniform(0, span * 0.8 / arguments.writers))
            for pid in pids:
                os.kill(pid, rng.choice([signal.SIGKILL, signal.SIGTERM]))
                if rng.random() < 0.3:
                    time.sleep(rng.uniform(0, span / 4))
        for pid in pids:
            status = os.waitpid(pid, 0)[1]
            if os.WIFSIGNALED(status):
                tally["killed"] += 1
            else:
                code = os.WEXITSTATUS(status)
                assert code in (0, 3) and (code == 0 or limit is not None), f"a writer failed with {code}"
                tally["full"] += code == 3
        for pid in readers:
            code = os.WEXITSTATUS(os.waitpid(pid, 0)[1])
            assert code >= 100, "a reader saw something partial"
            tally["early"] = tally.get("early", 0) + code - 100
        after = state(path) if path.exists() else {}
        for name, kept in before.items():
            assert after.get(name) == kept, f"{name} of a finished shard was lost or written again"
        done = sum(name.startswith("receipts/") for name in after)
        tally["interrupted_with"][done] += 1
        if path.exists() and check_partial(path, toy):
            encode_all(path, toy, 0, **options)  # tidies what a kill right after sealing left
            assert tree(path) == whole, "the bytes differ from an uninterrupted run's"
            assert verify(path).ok
            tally["stores"] += 1
            shutil.rmtree(path)
    if path.exists():
        encode_all(path, toy, 0, **options)
        assert tree(path) == whole, "the bytes differ from an uninterrupted run's"
    tally["encoded"] = len((arguments.folder / "encoded").read_text().splitlines())
    tally["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(tally))


if __name__ == "__main__":
    main()
