"""Push, pull, a part of the ids and remote reading against plain fsspec `put` and `get` of the same files, in one run.

    python benchmarks/sharing.py                        # against moto's S3 server on loopback, which it starts
    python benchmarks/sharing.py s3://bucket/scratch    # against a bucket of yours; the folder is overwritten
    python benchmarks/sharing.py --records 64 --json benchmarks/results/sharing.json

Writes `--records` image records (577 x 768 float16, 0.9 MB each) in shards of 16, moves them each way, prints bytes,
MB/s and the ratio to fsspec's time for all of it. fsspec checks nothing, we hash every byte and fsync every file; on
loopback the server, which shares the machine, takes a large part of the time.
"""

from __future__ import annotations

import argparse
import json
import os
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
    found = {}
    for name, way in ways.items():
        started = time.perf_counter()
        moved = way()
        found[name] = {"bytes": moved, "seconds": time.perf_counter() - started, "share": moved / size}
    return {"records": records, "bytes": size, "ways": found}


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
    print(f"{document['records']} records, {document['bytes'] / 1e6:,.1f} MB")
    for name, way in ways.items():
        rate = way["bytes"] / way["seconds"] / 1e6
        base = ways["fsspec put" if "pu" in name and "pull" not in name else "fsspec get"]
        ratio = base["seconds"] / way["seconds"]
        moved = f"{way['bytes'] / 1e6:9,.1f} MB {way['share']:6.1%} {rate:8,.1f} MB/s"
        print(f"{name:22} {moved} {ratio:6.2f} x as fast as fsspec, all of it")
    if args.json:
        args.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
