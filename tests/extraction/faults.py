"""A supervisor that kills a real extraction (sample encoders, drawn pictures) at random moments and starts it again.

    python -m tests.extraction.faults FOLDER --rounds 5 --format zarr

The short form of tests/stores/faults.py with everything that stage one adds: encoders, decoding threads, batches.
Checked after every kill: finished shards keep their files untouched. At the end: the bytes of an uninterrupted run.
Prints one JSON line. A program of its own: it forks, which needs a process without threads.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch

from tests.stores.faults import state
from tests.stores.toy import tree
from umecache.cli.stopping import sigterm_stops
from umecache.data.sample import write_sample
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.extract import extract
from umecache.stores.files import WORK


def fork(config: ExtractConfig) -> int:
    """A child that extracts; exit status 0 when done."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with sigterm_stops():
            extract(config)
        status = 0
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        os._exit(status)


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """Files of the finished shards of every store below `folder`."""
    stores = {path.parent for path in folder.rglob("receipts")}
    return {f"{store.relative_to(folder)}/{name}": kept for store in stores for name, kept in state(store).items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--format", default="zarr")
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # also keeps the forks safe: no thread pool is inherited
    rng = random.Random(arguments.seed)
    data = arguments.folder / "sample"
    write_sample(data, images=arguments.images, seed=0)
    jobs = {
        name: ExtractConfig(
            models=(ModelRequest(name=name),),
            data=str(data),
            store=arguments.folder / "stores" / name,
            format=arguments.format,
            shard_records=20,
            device="cpu",
            workers=2,
        )
        for name in ("sample-text", "sample-image")
    }

    def run_all() -> list[int]:
        return [os.waitpid(fork(config), 0)[1] for config in jobs.values()]

    started = time.monotonic()
    assert run_all() == [0, 0], "the uninterrupted run failed"
    span = (time.monotonic() - started) / 2
    stores = arguments.folder / "stores"
    whole = tree(stores)
    shutil.rmtree(stores)
    killed, partial = 0, 0
    while killed < arguments.rounds:
        before = finished(stores)
        pids = [fork(config) for config in jobs.values()]
        time.sleep(rng.uniform(0.1, span))
        for pid in pids:
            os.kill(pid, rng.choice([signal.SIGKILL, signal.SIGTERM]))
        statuses = [os.waitpid(pid, 0)[1] for pid in pids]
        killed += sum(status != 0 for status in statuses)
        after = finished(stores)
        assert before.items() <= after.items(), "a finished shard was lost or written again"
        if all(status == 0 for status in statuses):
            assert tree(stores) == whole
            shutil.rmtree(stores)
        partial += any(stores.rglob(WORK))  # an unfinished store was left
    assert run_all() == [0, 0], "the last run could not go on"
    assert tree(stores) == whole, "not the bytes of an uninterrupted run"
    print(json.dumps({"killed": killed, "partial": partial, "files": len(whole)}))


if __name__ == "__main__":
    main()
