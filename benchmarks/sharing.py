"""Push, pull, a part of the ids and remote reading against fsspec's `put` and `get` of the same files, in one run; and
to a folder against `cp` and `rsync`.

    python benchmarks/sharing.py                        # against moto's S3 server on loopback, which it starts
    python benchmarks/sharing.py s3://bucket/scratch    # against a bucket of yours; the folder is overwritten
    python benchmarks/sharing.py --records 64 --json benchmarks/results/sharing.json

Writes `--records` image records (577 x 768 float16, 0.9 MB each) in shards of 16, moves them each way, prints bytes,
MB/s and the ratio to the other's time for all of it. The others check nothing and leave it to the system when bytes
reach the disk; we hash every byte and fsync every file. On loopback the server, which shares the machine, takes a large
part of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import numpy as np

from umecache.sharing.pull import pull
from umecache.sharing.push import push
from umecache.sharing.reading import open_store
from umecache.stores import open_writer

TOKENS, DIM = 577, 768
AGAINST = {
    "fsspec put": ("push", "push again"),
    "fsspec get": ("pull", "pull 5% of the ids", "read 5% of the ids", "read the first record"),
    "cp": ("rsync", "cp, then sync", "push to a folder"),
}


def make(folder: Path, records: int) -> int:
    """A store of random values; returns its bytes."""
    values = np.random.default_rng(0).normal(size=(TOKENS, DIM)).astype(np.float16)
    facts = {"recipe": {}, "origin": {}, "dataset": {"name": "b", "split": "val"}, "modality": "image", "model": "b"}
    writer = open_writer(
        folder,
        manifest={**facts, "grid": None},
        ids=list(range(records)),
        digests=[f"{i:064x}" for i in range(records)],
        lengths=[TOKENS] * records,
        dim=DIM,
        shard_records=16,
    )
    for shard in writer.claim():
        with shard:
            for position in shard.records:
                shard.write(position, np.roll(values, position))
    writer.seal()
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def bucket() -> Iterator[str]:
    """A bucket of moto's server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if time.monotonic() > give_up:
                raise SystemExit("moto's server did not come up: pip install 'moto[server]'")
            time.sleep(0.1)
        fsspec.filesystem("s3").mkdir("bench")
        yield "s3://bench/stores"
    finally:
        server.kill()
        server.wait()


def measure(url: str, records: int, folder: Path) -> dict[str, Any]:
    """Seconds and bytes of every way."""
    size = make(folder / "store", records)
    system, root = fsspec.core.url_to_fs(url)
    some = list(range(0, records, 20))

    def read(ids: list[int], cache: str) -> int:
        far = open_store(f"{url}/ours", cache=folder / cache)
        far.batch(ids)
        return sum(path.stat().st_size for path in far.path.rglob("*") if path.is_file())

    def theirs(move: Callable[..., Any], a: str, b: str) -> Callable[[], int]:
        return lambda: (move(a, b, recursive=True), size)[1]

    ways: dict[str, Callable[[], int]] = {
        "fsspec put": theirs(system.put, str(folder / "store"), f"{root}/theirs"),
        "push": lambda: push(folder / "store", f"{url}/ours")[0].bytes,
        "push again": lambda: push(folder / "store", f"{url}/ours")[0].bytes,
        "fsspec get": theirs(system.get, f"{root}/theirs", str(folder / "theirs")),
        "pull": lambda: pull(f"{url}/ours", folder / "ours")[0].bytes,
        "pull 5% of the ids": lambda: pull(f"{url}/ours", folder / "few", ids=some)[0].bytes,
        "read 5% of the ids": lambda: read(some, "some"),
        "read the first record": lambda: read([0], "one"),
    }
    for program, words in (("cp", ["-r"]), ("rsync", ["-a"])):
        if shutil.which(program):
            command = [program, *words, str(folder / "store"), str(folder / program)]
            ways[program] = lambda command=command: subprocess.run(command, check=True) and size
    flush = ["sh", "-c", 'cp -r "$0" "$1" && sync -f "$1"', str(folder / "store"), str(folder / "flushed")]
    ways["cp, then sync"] = lambda: subprocess.run(flush, check=True) and size
    ways["push to a folder"] = lambda: push(folder / "store", str(folder / "pushed"))[0].bytes
    found = {}
    for name, way in ways.items():
        os.sync()  # what came before is not paid for by the next
        used, started = os.times(), time.perf_counter()
        moved = way()
        seconds, now = time.perf_counter() - started, os.times()
        cpu = sum(now[:4]) - sum(used[:4])
        against = next((base for base, ours in AGAINST.items() if name in ours), name)
        ratio = found[against]["seconds"] / seconds if against in found else 1.0
        found[name] = {
            "bytes": moved,
            "seconds": round(seconds, 3),
            "cpu": round(cpu, 3),
            "share": round(moved / size, 4),
            "against": against,
            "ratio": round(ratio, 3),
        }
    load = [round(each, 1) for each in os.getloadavg()]
    return {"records": records, "bytes": size, "cores": os.cpu_count(), "load": load, "ways": found}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="default: a server on loopback")
    parser.add_argument("--records", type=int, default=320)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.url:
            document = measure(args.url, args.records, Path(folder))
        else:
            with bucket() as url:
                document = measure(url, args.records, Path(folder))
    ways = document["ways"]
    print(f"{document['records']} records, {document['bytes'] / 1e6:,.1f} MB; load {document['load'][0]}")
    for name, way in ways.items():
        rate = way["bytes"] / way["seconds"] / 1e6
        moved = f"{way['bytes'] / 1e6:9,.1f} MB {way['share']:6.1%} {rate:8,.1f} MB/s {way['cpu']:6.1f} s of CPU"
        print(f"{name:22} {moved} {way['ratio']:6.2f} x as fast as {way['against']}, all of it")
    if args.json:
        args.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
