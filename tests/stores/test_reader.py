"""Reading: cheap to open, clear when it can't be, the same in every process."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stores.toy import Toy, begin, fill, write
from umecache.stores import (
    StoreDamaged,
    StoreError,
    StoreIncomplete,
    StoreMismatch,
    StoreMissing,
    open_store,
    open_writer,
    reader,
)
from umecache.stores.reader import progress


@pytest.fixture
def toy() -> Toy:
    return Toy.make()


def test_importing_the_room_is_light() -> None:
    script = (
        "import sys, umecache.stores as s; s.open_store; s.open_writer\n"
        "print(sorted({'zarr', 'h5py', 'torch', 'numcodecs', 'rich'} & set(sys.modules)))\n"
        "print(sorted(m for m in sys.modules if m.startswith('umecache') and not m.startswith('umecache.stores')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['umecache']"]


def test_a_zarr_store_is_read_without_zarr(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy)
    script = (
        "import sys; from umecache.stores import open_store; s = open_store(sys.argv[1]); s.batch(s.ids)\n"
        "print(sorted({'zarr', 'h5py', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "s")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_opening_does_not_grow_with_the_store(tmp_path: Path, format: str) -> None:
    """443,757 ids over 200 shards, as VQA v2's train questions: open in 0.2 s and a few MB."""
    n, shards = 443_757, 200
    ids = np.random.default_rng(0).permutation(10**7)[:n]
    digests = np.zeros((n, 32), np.uint8)
    digests[:, 0] = np.arange(n) * shards // n  # 200 distinct inputs, one a shard, keep the test short
    inputs = {"ids": ids, "digests": digests, "lengths": np.full(n, 3), "dim": 4}
    writer = open_writer(tmp_path / "s", manifest={"recipe": {}}, **inputs, shard_records=1, format=format)
    for shard in writer.claim():
        with shard:
            shard.write(shard.records[0], np.full((3, 4), shard.index, np.float16))
    writer.seal()
    open_store(tmp_path / "s")  # imports and file system cache
    took = []
    for _ in range(5):
        started = time.process_time()  # not the wall's: tests share the machine
        store = open_store(tmp_path / "s")
        took.append(time.process_time() - started)
    tracemalloc.start()
    open_store(tmp_path / "s")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(store) == n
    assert peak < 3e6
    assert min(took) < 0.2
    assert store[int(ids[-1])][0, 0] == shards - 1
    assert store.rows(ids[::1000]).tolist() == list(range(0, n, 1000))


def test_many_shards_need_few_file_descriptors(tmp_path: Path) -> None:
    toy = Toy.make(ids=60, distinct=60, missing=0)
    write(tmp_path / "s", toy, shard_records=1)
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "from umecache.stores import open_store, rows\n"
        "rows.MAX_MAPS = 16\n"
        "s = open_store(sys.argv[1]); [s[i].sum() for _ in range(3) for i in s.ids]"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "s")], check=True)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 40


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match=r"No feature store at .*does not exist"):
        open_store(tmp_path / "none")
    with pytest.raises(StoreMissing, match="Neither a Zarr group nor an HDF5 index"):
        open_store(tmp_path)
    (tmp_path / "file").write_text("text")
    with pytest.raises(StoreMissing):
        open_store(tmp_path / "file")
    with pytest.raises(StoreError, match="umecache store pull s3://bucket/store"):
        open_store("s3://bucket/store")


def test_file_urls(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy)
    assert len(open_store(f"file://{tmp_path}/s")) == 24


def test_readers_beside_a_writer(tmp_path: Path, toy: Toy) -> None:
    assert progress(tmp_path / "s") is None
    (tmp_path / "s/.writing").mkdir(parents=True)
    with pytest.raises(StoreIncomplete, match="0 of as yet unknown shards"):
        open_store(tmp_path / "s")
    shutil.rmtree(tmp_path / "s")
    writer = begin(tmp_path / "s", toy)
    for done, shard in enumerate(writer.claim()):
        with pytest.raises(StoreIncomplete, match=f"{done} of 4 shards"):
            open_store(tmp_path / "s")
        fill(shard, toy)
    writer.seal()
    assert len(open_store(tmp_path / "s")) == 24


def test_opened_at_the_moment_of_sealing(tmp_path: Path, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "s", toy)
    looks = iter([False])  # the first look comes just before the seal
    monkeypatch.setattr(reader, "is_sealed", lambda path: next(looks, True))
    assert len(open_store(tmp_path / "s")) == 24


def test_the_work_folder_goes_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s/.writing").mkdir(parents=True)
    (tmp_path / "s/.writing/plan.json").write_text("{}")

    def gone(file: Path) -> dict[str, Any]:
        shutil.rmtree(file.parent)
        raise StoreDamaged(f"{file} can't be read.")

    monkeypatch.setattr(reader, "read_json", gone)
    assert progress(tmp_path / "s") is None
    (tmp_path / "s/.writing").mkdir()
    (tmp_path / "s/.writing/plan.json").write_text("{")
    monkeypatch.undo()
    with pytest.raises(StoreDamaged):  # a plan that is there and malformed is damage
        progress(tmp_path / "s")


def test_begun_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "s"
    folder.mkdir()  # a writer's first step

    def kept_waiting(root: Path) -> None:
        """Saw no work folder, then lost its core while the writer finished its first shard."""
        (root / "receipts").mkdir()

    monkeypatch.setattr(reader, "progress", kept_waiting)
    with pytest.raises(StoreMissing):
        open_store(folder)


def test_a_store_that_lost_its_seal(tmp_path: Path, toy: Toy) -> None:
    for name in ("CHECKSUMS", "manifest.json"):
        write(tmp_path / name, toy)
        (tmp_path / name / name).unlink()
        with pytest.raises(StoreDamaged, match="not sealed"):
            open_store(tmp_path / name)


def test_another_store_at_the_same_path(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy)
    sent = bytes(ForkingPickler.dumps(open_store(tmp_path / "s")))
    shutil.rmtree(tmp_path / "s")
    write(tmp_path / "s", replace(toy, ids=[i + 1000 for i in toy.ids]))
    with pytest.raises(StoreMismatch, match="not the store it was"):
        ForkingPickler.loads(sent)


def test_relative_paths_survive_a_change_of_folder(tmp_path: Path, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "s", toy)
    monkeypatch.chdir(tmp_path)
    store = open_store("s")
    sent = bytes(ForkingPickler.dumps(store))
    monkeypatch.chdir("/")
    assert np.array_equal(ForkingPickler.loads(sent)[toy.ids[0]], store[toy.ids[0]])


def test_attributes(tmp_path: Path, toy: Toy) -> None:
    facts = write(tmp_path / "s", toy, dtype="bfloat16")
    store = open_store(tmp_path / "s")
    assert (len(store), store.dim, store.dtype, store.format) == (24, 6, "bfloat16", "zarr")
    assert store.fingerprint == facts["fingerprint"]
    assert {key: value for key, value in store.manifest.items() if key != "created"} == {
        key: value for key, value in facts.items() if key not in ("path", "complete", "bytes")
    }
    assert store.raw(toy.ids[0]).dtype == np.uint16
    assert repr(store).endswith("24 records, D=6, bfloat16, zarr)")
    assert store.digests is not None
    assert store.digests[0].tobytes().hex() == toy.digests[0]
    assert store.rows(toy.ids).tolist() == list(range(24))
    assert store.rows([]).tolist() == []
    assert store.batch([])[0].shape == (0, 1, 6)


def test_sorted_and_unsorted_ids(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "sorted", replace(toy, ids=sorted(toy.ids)))
    write(tmp_path / "not", toy)
    write(tmp_path / "text", replace(toy, ids=[f"id {i}" for i in toy.ids]))
    for name in ("sorted", "not", "text"):
        store = open_store(tmp_path / name)
        some = store.ids_at([7, 3, 3, 20])
        assert store.rows(some).tolist() == [7, 3, 3, 20]
        assert all(type(i) in (int, str) for i in some)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [("start", 0, 2**62), ("start", 0, -1), ("length", 0, 2**62), ("length", 0, -1), ("start", 1, 10**6)],
)
def test_places_that_lie(tmp_path: Path, toy: Toy, name: str, place: int, value: int) -> None:
    write(tmp_path / "s", toy)
    file = tmp_path / f"s/{name}/c/0"
    values = np.frombuffer(file.read_bytes(), "<i8").copy()
    values[place] = value
    file.write_bytes(values.tobytes())
    store = open_store(tmp_path / "s")
    for read in (lambda: store[toy.ids[place]], lambda: store.batch(toy.ids[:2]), lambda: store.raw(toy.ids[place])):
        with pytest.raises(StoreDamaged):
            read()


def test_a_manifest_that_contradicts_the_arrays(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy)
    file = tmp_path / "s/manifest.json"
    for change in ({"records": 23}, {"dim": 7}, {"dtype": "float32"}, {"format": "hdf5"}):
        good = file.read_text()
        file.write_text(json.dumps(json.loads(good) | change))
        with pytest.raises(StoreDamaged):
            open_store(tmp_path / "s")
        file.write_text(good)


def test_unreadable_files(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy)
    (tmp_path / "s/start/c/0").unlink()
    (tmp_path / "s/start/c/0").mkdir()
    with pytest.raises(StoreDamaged, match="missing"):
        open_store(tmp_path / "s")
    write(tmp_path / "t", toy)
    (tmp_path / "t/tokens/c/0/0").unlink()
    os.mkfifo(tmp_path / "t/tokens/c/0/0")  # opening it would wait for ever
    with pytest.raises(StoreDamaged, match="missing"):
        open_store(tmp_path / "t")
