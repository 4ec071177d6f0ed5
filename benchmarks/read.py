"""Random reads of single records and of batches: our readers against a bare memory map and the libraries.

    python benchmarks/read.py --json benchmarks/results/read.json
    python benchmarks/read.py --text --records 20000

Writes the same records (577 x 768 float16 as of ViT-B/16 at 384 px; with --text 5 to 20 x 768) with every writer, then
reads them in one random order, warm page cache. Prints GB/s and the ratio to copying each record out of an np.memmap
(one memcpy, the ceiling). Batches are compared with one memcpy of the same bytes into the same buffer.

Cost: 4 GB of disk and about a minute on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DIM, BATCH = 768, 32
SLOW = ("h5py", "zarr-python")  # read fewer groups: their speed shows soon


def lengths_of(records: int, text: bool) -> np.ndarray:
    """Tokens of each record."""
    return np.random.default_rng(0).integers(5, 21, records) if text else np.full(records, 577)


def make(folder: Path, length: np.ndarray) -> dict[str, Path]:
    """The same values for every reader: a raw file, our two stores, plain Zarr and plain HDF5."""
    import h5py
    import zarr

    from umecache.stores import open_writer

    start = np.concatenate([[0], np.cumsum(length)])
    raw = np.memmap(folder / "raw", np.float16, "w+", shape=(int(start[-1]), DIM))
    pattern = np.random.default_rng(1).normal(size=(4096, DIM)).astype(np.float16)
    for first in range(0, len(raw), len(pattern)):
        raw[first : first + len(pattern)] = pattern[: len(raw) - first]
    raw.flush()
    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(len(length))]
    facts = {"recipe": {"benchmark": "read"}, "modality": "image", "model": "none"}
    for form in ("zarr", "hdf5"):
        writer = open_writer(
            folder / form, manifest=facts, ids=range(len(length)), digests=digests, lengths=length, dim=DIM, format=form
        )
        for shard in writer.claim():
            with shard:
                for i in shard.records:
                    shard.write(i, raw[start[i] : start[i + 1]])
        writer.seal()
    fixed = int(length[0]) if (length == length[0]).all() else 64
    group = zarr.open_group(folder / "plain.zarr", mode="w")
    step = min(fixed * max(1, (256 << 20) // (fixed * DIM * 2)), -(-len(raw) // fixed) * fixed)
    rows = -(-len(raw) // step) * step
    array = group.create_array(
        "tokens", shape=(rows, DIM), chunks=(fixed, DIM), shards=(step, DIM), dtype="float16", compressors=None
    )
    with h5py.File(folder / "plain.h5", "w") as file:
        data = file.create_dataset("tokens", shape=(rows, DIM), chunks=(fixed, DIM), dtype="float16")
        for first in range(0, len(raw), step):
            array[first : first + step] = (
                raw[first : first + step] if first + step <= len(raw) else _padded(raw[first:], step)
            )
            data[first : min(first + step, len(raw))] = raw[first : first + step]
    return {name: folder / name for name in ("raw", "zarr", "hdf5", "plain.zarr", "plain.h5")}


def _padded(values: np.ndarray, rows: int) -> np.ndarray:
    out = np.zeros((rows, DIM), np.float16)
    out[: len(values)] = values
    return out


def speeds(readers: dict[str, Callable[[list[int]], int]], order: np.ndarray, repeats: int) -> dict[str, float]:
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
                if name in SLOW and turn % 8:
                    continue
                started = time.perf_counter()
                size = read(group)
                times.setdefault(name, []).append(time.perf_counter() - started)
                if len(times[name]) == 1:
                    moved[name] += size
        for name, taken in times.items():
            best[name] += min(taken)
    return {name: moved[name] / best[name] / 1e9 for name in readers}


def single_records(paths: dict[str, Path], length: np.ndarray, order: np.ndarray, repeats: int) -> dict[str, float]:
    """GB/s of reading records one by one into one buffer."""
    import h5py
    import zarr

    from umecache.stores import open_store

    start = np.concatenate([[0], np.cumsum(length)]).tolist()
    raw = np.memmap(paths["raw"], np.float16, "r").reshape(-1, DIM)
    buffer = np.empty((int(length.max()), DIM), np.float16)

    def reading(get: Callable[[int], Any]) -> Callable[[list[int]], int]:
        def read(group: list[int]) -> int:
            moved = 0
            for i in group:
                record = get(i)
                buffer[: len(record)] = record
                moved += record.nbytes
            return moved

        return read

    plain = zarr.open_group(paths["plain.zarr"], mode="r")["tokens"]
    with h5py.File(paths["plain.h5"], "r") as file:
        data = file["tokens"]
        readers = {
            "np.memmap": reading(lambda i: raw[start[i] : start[i + 1]]),
            "ours, zarr": reading(open_store(paths["zarr"]).__getitem__),
            "ours, hdf5": reading(open_store(paths["hdf5"]).__getitem__),
            "h5py": reading(lambda i: data[start[i] : start[i + 1]]),
            "zarr-python": reading(lambda i: plain[start[i] : start[i + 1]]),
        }
        return speeds(readers, order, repeats)


def batches(paths: dict[str, Path], length: np.ndarray, order: np.ndarray, repeats: int) -> dict[str, float]:
    """GB/s of gathering 32 records at a time into one buffer [B, T, D]; the ceiling is one memcpy of the same bytes."""
    from umecache.stores import open_store

    buffer = np.zeros((BATCH, int(length.max()), DIM), np.float16)
    flat = buffer.reshape(-1).view(np.uint8)
    raw = np.memmap(paths["raw"], np.uint8, "r")
    rng = np.random.default_rng(3)

    def size(group: list[int]) -> int:
        return int(length[group].sum()) * DIM * 2

    def memcpy(group: list[int]) -> int:
        moved = size(group)
        at = int(rng.integers(0, len(raw) - moved))  # somewhere in the file, as cold to the CPU's caches as records are
        flat[:moved] = raw[at : at + moved]
        return moved

    def gather(store: Any) -> Callable[[list[int]], int]:
        def read(group: list[int]) -> int:
            store.batch(group, out=buffer)
            return size(group)

        return read

    readers = {
        "one memcpy": memcpy,
        "ours, zarr": gather(open_store(paths["zarr"])),
        "ours, hdf5": gather(open_store(paths["hdf5"])),
    }
    return speeds(readers, order, repeats)


def table(title: str, found: dict[str, float]) -> str:
    """Rows of GB/s and the ratio to the first one."""
    ceiling = next(iter(found.values()))
    lines = [title, f"  {'reader':<18}{'GB/s':>8}{'ratio':>8}"]
    lines += [f"  {name:<18}{speed:8.2f}{speed / ceiling:8.2f}" for name, speed in found.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", action="store_true", help="ragged records of 5 to 20 tokens instead of 577")
    parser.add_argument("--records", type=int, help="default: 1000 images or 20000 texts")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    records = arguments.records or (20_000 if arguments.text else 1000)
    length = lengths_of(records, arguments.text)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        paths = make(folder, length)
        order = np.random.default_rng(2).permutation(records)
        single = single_records(paths, length, order, arguments.repeats)
        gathered = batches(paths, length, order, arguments.repeats)
    finally:
        shutil.rmtree(folder)
    kind = "ragged 5-20 x 768" if arguments.text else "577 x 768"
    print(table(f"{records} records, {kind} float16, random order, warm cache; one at a time", single))
    print(table(f"batches of {BATCH} into one buffer", gathered))
    if arguments.json:
        ceilings = {"single": single["np.memmap"], "batches": gathered["one memcpy"]}
        document = {
            "records": records,
            "shape": kind,
            "gb_per_s": {"single": single, "batches": gathered},
            "ratio": {
                part: {name: round(speed / ceilings[part], 3) for name, speed in found.items()}
                for part, found in (("single", single), ("batches", gathered))
            },
            "machine": {
                "cpu": platform.processor() or platform.machine(),
                "cores": os.cpu_count(),
                "numpy": np.__version__,
            },
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
