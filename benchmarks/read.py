"""Random reads of single records and of batches: our readers against a bare memory map and the libraries.

    python benchmarks/read.py --json benchmarks/results/read.json
    python benchmarks/read.py --text --records 20000
    python benchmarks/read.py --parts single,batches,workers,cold

Writes the same records (577 x 768 float16 as of ViT-B/16 at 384 px; with --text 5 to 20 x 768) with every library of
benchmarks/readers.py that is installed (`pip install umecache[bench]` brings them), then reads them in one random
order. Prints GB/s and ratios:

- single: records one by one, to copying each out of an np.memmap (one memcpy, the ceiling), warm page cache;
- batches: 32 records gathered into one [B, T, D] buffer, to one memcpy of the same bytes;
- workers: as many processes as cores, and 8, each with its own order, to one process;
- cold: the page cache dropped before each reader, records one by one (ours in batches too), to np.memmap.

Cost: 0.9 GB of disk per library for images, and some minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from readers import PEERS, Get

DIM, BATCH = 768, 32
SLOW_SHARE = 8  # slow readers read every eighth group
PARTS = ("single", "batches", "workers", "cold")
OURS = ("np.memmap", "ours, zarr", "ours, hdf5")
Read = Callable[[list[int]], int]


def lengths_of(records: int, text: bool) -> np.ndarray:
    """Tokens of each record."""
    return np.random.default_rng(0).integers(5, 21, records) if text else np.full(records, 577)


def make(folder: Path, start: np.ndarray) -> list[str]:
    """The same values for every reader; returns the names of those that could be written."""
    pattern = np.random.default_rng(1).normal(size=(4096, DIM)).astype(np.float16)
    raw_RD = np.resize(pattern, (int(start[-1]), DIM))
    made = [name for name, peer in PEERS.items() if peer.installed]
    for name in made:
        PEERS[name].write(folder, raw_RD, start)
    os.sync()
    for name in made:  # a benchmark of wrong values would be worthless
        get = PEERS[name].open(folder, start)
        for i in (0, len(start) // 2, len(start) - 2):
            if not np.array_equal(np.asarray(get(i)).reshape(-1, DIM), raw_RD[start[i] : start[i + 1]]):
                raise SystemExit(f"{name} gives other values than were written")
    return made


def reading(get: Get, longest: int) -> Read:
    """Records one by one into one buffer."""
    buffer = np.empty((longest, DIM), np.float16)

    def read(group: list[int]) -> int:
        moved = 0
        for i in group:
            record = get(i)
            buffer[: len(record)] = record
            moved += record.nbytes
        return moved

    return read


def gathering(get: Get, longest: int) -> Read:
    """Records into one padded batch, as people write it where the library has no batch of its own."""
    out_BTD = np.zeros((BATCH, longest, DIM), np.float16)

    def read(group: list[int]) -> int:
        moved = 0
        for out_TD, i in zip(out_BTD, group, strict=False):
            record = get(i)
            out_TD[: len(record)] = record
            out_TD[len(record) :] = 0
            moved += record.nbytes
        return moved

    return read


def speeds(readers: dict[str, Read], order: np.ndarray, repeats: int) -> dict[str, float]:
    """GB/s of each reader: each group of records is read several times, readers taking turns, and the best time counts.

    So what else runs on the machine is not measured.

    Args:
        readers: a function that reads these records and returns the bytes that it moved.
    """
    groups = [order[i : i + BATCH].tolist() for i in range(0, len(order) - BATCH + 1, BATCH)]
    moved, best = dict.fromkeys(readers, 0), dict.fromkeys(readers, 0.0)
    for turn, group in enumerate(groups):
        times: dict[str, list[float]] = {}
        for _ in range(repeats):
            for name, read in readers.items():
                if name in PEERS and PEERS[name].slow and turn % SLOW_SHARE:
                    continue
                started = time.perf_counter()
                size = read(group)
                times.setdefault(name, []).append(time.perf_counter() - started)
                if len(times[name]) == 1:
                    moved[name] += size
        for name, taken in times.items():
            best[name] += min(taken)
    return {name: moved[name] / best[name] / 1e9 for name in readers}


def single_records(folder: Path, names: list[str], start: np.ndarray, order: np.ndarray, n: int) -> dict[str, float]:
    """GB/s of reading records one by one into one buffer, warm."""
    longest = int(np.diff(start).max())
    return speeds({name: reading(PEERS[name].open(folder, start), longest) for name in names}, order, n)


def batches(folder: Path, names: list[str], start: np.ndarray, order: np.ndarray, n: int) -> dict[str, float]:
    """GB/s of gathering 32 records at a time into one buffer [B, T, D]; the ceiling is one memcpy of the same bytes."""
    from umecache.stores import open_store

    length = np.diff(start)
    longest = int(length.max())
    buffer = np.zeros((BATCH, longest, DIM), np.float16)
    flat = buffer.reshape(-1).view(np.uint8)
    raw = np.memmap(folder / "raw", np.uint8, "r")
    rng = np.random.default_rng(3)

    def size(group: list[int]) -> int:
        return int(length[group].sum()) * DIM * 2

    def memcpy(group: list[int]) -> int:
        moved = size(group)
        at = int(rng.integers(0, len(raw) - moved))  # somewhere in the file, as cold to the CPU's caches as records are
        flat[:moved] = raw[at : at + moved]
        return moved

    def ours(store: Any) -> Read:
        def read(group: list[int]) -> int:
            store.batch(group, out=buffer)
            return size(group)

        return read

    readers: dict[str, Read] = {"one memcpy": memcpy}
    for name in names:
        if name.startswith("ours"):
            readers[name] = ours(open_store(folder / name.removeprefix("ours, ")))
        else:
            readers[name] = gathering(PEERS[name].open(folder, start), longest)
    return speeds(readers, order, n)


def _worker(
    folder: Path, name: str, start: np.ndarray, seed: int, seconds: float, begin: Any, done: Any
) -> None:  # in a spawned process
    read = reading(PEERS[name].open(folder, start), int(np.diff(start).max()))
    order = np.random.default_rng(seed).permutation(len(start) - 1).tolist()
    read(order[:BATCH])
    begin.wait()
    moved, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < seconds:
        at = np.random.default_rng().integers(0, max(len(order) - BATCH, 1))
        moved += read(order[at : at + BATCH])
    done.put(moved / taken)


def workers(folder: Path, start: np.ndarray, count: int, seconds: float) -> dict[str, float]:
    """GB/s of several processes together, each reading at random."""
    context = multiprocessing.get_context("spawn")
    found = {}
    for name in OURS:
        for processes in sorted({1, os.cpu_count() or 1, count}):
            begin, done = context.Barrier(processes), context.Queue()
            started = [
                context.Process(target=_worker, args=(folder, name, start, k, seconds, begin, done))
                for k in range(processes)
            ]
            for process in started:
                process.start()
            found[f"{name}, {processes} processes" if processes > 1 else f"{name}, 1 process"] = (
                sum(done.get() for _ in started) / 1e9
            )
            for process in started:
                process.join()
    return found


def cold(folder: Path, names: list[str], start: np.ndarray, order: np.ndarray) -> dict[str, float]:
    """GB/s of the first pass over a quarter of the records after their pages were dropped from the cache: one by one,
    and ours in batches too.
    """
    from umecache.stores import open_store

    length = np.diff(start)
    longest, some = int(length.max()), order[: len(order) // 4].tolist()

    def single(name: str) -> Read:
        return reading(PEERS[name].open(folder, start), longest)

    def batched(name: str) -> Read:
        store, buffer = open_store(folder / name.removeprefix("ours, ")), np.zeros((BATCH, longest, DIM), np.float16)

        def read(ids: list[int]) -> int:
            for at in range(0, len(ids), BATCH):
                group = ids[at : at + BATCH]
                store.batch(group, out=buffer[: len(group)])
            return int(length[ids].sum()) * DIM * 2

        return read

    ours = [name for name in names if name.startswith("ours")]
    jobs = {name: partial(single, name) for name in names}
    jobs |= {f"{name}, batches": partial(batched, name) for name in ours}
    found = {}
    for name, opened in jobs.items():
        drop_cache(folder)
        read = opened()
        started = time.perf_counter()
        moved = read(some)
        found[name] = moved / (time.perf_counter() - started) / 1e9
    return found


def drop_cache(folder: Path) -> None:
    """Ask the system to forget the files' pages; those that a process still maps stay."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def table(title: str, found: dict[str, float], ratio: dict[str, float]) -> str:
    """Rows of GB/s and ratios."""
    lines = [title, f"  {'reader':<26}{'GB/s':>8}{'ratio':>8}"]
    lines += [f"  {name:<26}{speed:8.2f}{ratio[name]:8.2f}" for name, speed in found.items()]
    return "\n".join(lines)


def ratios(part: str, found: dict[str, float]) -> dict[str, float]:
    """Of each reader to the part's ceiling: the first row, or one process of the same reader."""
    first = next(iter(found.values()))
    if part == "workers":
        return {
            name: round(speed / found[f"{name.rpartition(', ')[0]}, 1 process"], 3) for name, speed in found.items()
        }
    return {name: round(speed / first, 3) for name, speed in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", action="store_true", help="ragged records of 5 to 20 tokens instead of 577")
    parser.add_argument("--records", type=int, help="default: 1000 images or 20000 texts")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--workers", type=int, default=8, help="processes that read at once")
    parser.add_argument("--seconds", type=float, default=2.0, help="that they read for")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    records = arguments.records or (20_000 if arguments.text else 1000)
    start = np.concatenate([[0], np.cumsum(lengths_of(records, arguments.text))])
    kind = "ragged 5-20 x 768" if arguments.text else "577 x 768"
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    speed: dict[str, dict[str, float]] = {}
    try:
        names = make(folder, start)
        order = np.random.default_rng(2).permutation(records)
        if "cold" in parts:  # first: later maps of the files would keep their pages
            speed["cold"] = cold(folder, names, start, order)
        if "single" in parts:
            speed["single"] = single_records(folder, names, start, order, arguments.repeats)
        if "batches" in parts:
            speed["batches"] = batches(folder, names, start, order, arguments.repeats)
        if "workers" in parts:
            speed["workers"] = workers(folder, start, arguments.workers, arguments.seconds)
    finally:
        shutil.rmtree(folder)
    missing = [name for name, peer in PEERS.items() if not peer.installed]
    print(f"{records} records, {kind} float16, random order" + (f"; not installed: {missing}" if missing else ""))
    titles = {
        "single": "one at a time, warm; ratio to np.memmap",
        "batches": f"batches of {BATCH} into one buffer, warm; ratio to one memcpy",
        "workers": f"several processes on {os.cpu_count()} cores, warm; ratio to one process",
        "cold": "page cache dropped; ratio to np.memmap",
    }
    ratio = {part: ratios(part, found) for part, found in speed.items()}
    for part in PARTS:
        if part in speed:
            print(table(titles[part], speed[part], ratio[part]))
    if arguments.json:
        document = {
            "records": records,
            "shape": kind,
            "gb_per_s": {part: {n: round(s, 3) for n, s in found.items()} for part, found in speed.items()},
            "ratio": ratio,
            "machine": {
                "cpu": platform.processor() or platform.machine(),
                "cores": os.cpu_count(),
                "load": os.getloadavg()[0],
                "numpy": np.__version__,
            },
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
