"""A corpus of hostile stores: one clear error, no large allocation, nothing outside the store, no code run.

Each case takes a good store and changes it as an attacker could; what the reader, verify, info, diff and convert do
with it is either to give values or to raise a StoreError.

    UMECACHE_FUZZ=500 pytest tests/stores/test_hostile.py
"""

from __future__ import annotations

import copy
import json
import os
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stores.toy import Toy, tree, write
from umecache.stores import StoreDamaged, StoreError, open_store
from umecache.stores.catalog import diff, info
from umecache.stores.convert import convert
from umecache.stores.repair import reopen
from umecache.stores.verify import verify

MEMORY = 80 << 20  # bytes; the good store has 20 kB
EXAMPLES = int(os.environ.get("UMECACHE_FUZZ", "15"))  # of each random test and format; hundreds for a thorough search
TOY = Toy.make(ids=12, distinct=9)
FORMATS = ("zarr", "hdf5")


@pytest.fixture(scope="module", params=FORMATS)
def good(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that every case changes and puts back."""
    path = tmp_path_factory.mktemp("good") / "s"
    write(path, TOY, format=request.param, dtype="int8" if request.param == "zarr" else "float16")
    return path


@pytest.fixture
def path(good: Path) -> Iterator[Path]:
    before = tree(good)
    yield good
    for file in [p for p in good.rglob("*") if p.is_symlink() or not p.is_dir()]:
        file.unlink()
    for name, data in before.items():
        (good / name).parent.mkdir(parents=True, exist_ok=True)
        (good / name).write_bytes(data)


def read_everything(path: Path) -> None:
    store = open_store(path)
    for name in store.ids:
        try:
            store[name]
        except StoreError:
            continue
    store.batch(store.ids)


def survive(path: Path, *, work: Path | None = None) -> list[StoreError]:
    """Do everything with a store; returns the errors, fails on any other exception or a large allocation."""
    errors = []
    jobs: list[Callable[[], Any]] = [
        lambda: read_everything(path),
        lambda: verify(path),
        lambda: verify(path, sample=0.5),
        lambda: info(path),
        lambda: diff(path, path),
    ]
    if work is not None:
        jobs.append(lambda: convert(path, work / "converted"))
    tracemalloc.start()
    try:
        for job in jobs:
            try:
                job()
            except StoreError as error:
                assert "\n" not in str(error)
                errors.append(error)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    return errors


EVIL = [
    None, True, -1, 0, 1, 2**31, 2**62, 2**63, 2**64, 10**30, 1.5, "", "..", "../../../etc/passwd", "/etc/passwd",
    "a\0b", "\ud800", "x" * 5000, [], {}, [[]], [2**62], {"a": {}}, "numcodecs.pickle", "umecache.cli.app:main",
]  # fmt: skip


def nodes(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a JSON document."""
    if at:
        yield at
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield from nodes(value, (*at, key))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_field_of_any_json_file(good: Path, data: st.DataObject) -> None:
    files = sorted(p for p in good.rglob("*.json"))
    file = data.draw(st.sampled_from(files), "file")
    before = file.read_bytes()
    document = json.loads(before)
    for _ in range(data.draw(st.integers(1, 3))):
        way = data.draw(st.sampled_from(list(nodes(document))), "field")
        node = document
        for key in way[:-1]:
            node = node[key]
        if data.draw(st.integers(0, 4)) == 0:
            if isinstance(node, dict):
                del node[way[-1]]
        else:
            node[way[-1]] = copy.deepcopy(data.draw(st.sampled_from(EVIL), "value"))
        if not document:
            break
    file.write_text(json.dumps(document))
    try:
        survive(good)
    finally:
        file.write_bytes(before)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_bytes_of_any_file(good: Path, data: st.DataObject) -> None:
    name, before = data.draw(st.sampled_from(sorted(tree(good).items())), "file")
    changed = bytearray(before)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(len(changed) - 1, 0)), "at")
        how = data.draw(st.sampled_from(["flip", "cut", "insert", "fill"]))
        if how == "flip" and changed:
            changed[at] ^= data.draw(st.integers(1, 255))
        elif how == "cut":
            del changed[at:]
        elif how == "insert":
            changed[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            changed[at : at + 8] = data.draw(st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\0" * 7 + b"\x40"]))
    (good / name).write_bytes(changed)
    try:
        survive(good)
        if bytes(changed) != before:
            assert not verify(good).ok
    finally:
        (good / name).write_bytes(before)


def test_links_out_of_the_store(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    for name in sorted(tree(path)):
        data = (path / name).read_bytes()
        secret.write_bytes(data)  # even with the very same bytes
        (path / name).unlink()
        (path / name).symlink_to(secret)
        assert not verify(path).ok, name
        if name.startswith(("tokens/c", "scale/c", "shards", "receipts", "start", "length")):
            with pytest.raises(StoreError):
                read_everything(path)
                convert(path, tmp_path / "converted")
        (path / name).unlink()
        (path / name).write_bytes(data)


def test_folders_that_lead_out(path: Path, tmp_path: Path) -> None:
    for folder in ("tokens", "shards", "receipts"):
        if not (path / folder).is_dir():
            continue
        (path / folder).rename(tmp_path / folder)
        (path / folder).symlink_to(tmp_path / folder)
        assert not verify(path).ok
        with pytest.raises(StoreError):
            read_everything(path)
            reopen(path, [0])
        (path / folder).unlink()
        (tmp_path / folder).rename(path / folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "tokens/../../outside", "a\\b", "x" * 3000])
def test_manifests_that_name_files_outside(path: Path, name: str) -> None:
    (path.parent / "outside").write_bytes(b"x" * 50)
    manifest = json.loads((path / "manifest.json").read_text())
    size = Path("/etc/hostname").stat().st_size if name.startswith("/") else 50
    manifest["layout"]["shards"][0]["files"][0] = {"path": name, "bytes": size}
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreDamaged):
        open_store(path)
    assert not verify(path).ok


def test_pipes_and_devices_are_not_waited_for(path: Path) -> None:
    for name in sorted(tree(path)):
        data = (path / name).read_bytes()
        (path / name).unlink()
        os.mkfifo(path / name)
        survive(path)
        (path / name).unlink()
        (path / name).write_bytes(data)


def index_of(rows: np.ndarray) -> bytes:
    raw = rows.astype("<u8").tobytes()
    return raw + struct.pack("<I", google_crc32c.value(raw))


@pytest.mark.parametrize("name", ["tokens/c/0/0", "exact/c/0/0"])
def test_shard_indexes_with_a_right_checksum(tmp_path: Path, name: str) -> None:
    toy = Toy(list(range(4)), [0, 1, 2, 3], dict.fromkeys(range(4), 2), 200)
    write(tmp_path / "s", toy, dtype="int8")
    file = tmp_path / "s" / name
    if not file.exists():  # the toy has no outliers: make one up
        rows = np.full((8, 2), 2**64 - 1, np.uint64)
        rows[1] = 0, 800
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes(800) + index_of(rows))
    data = file.read_bytes()
    chunks = 4 if name.startswith("tokens") else 8
    body = data[: len(data) - 16 * chunks - 4]
    good = np.frombuffer(data[len(body) : -4], "<u8").reshape(chunks, 2)
    rng = np.random.default_rng(0)
    for _ in range(EXAMPLES):
        rows = good.copy()
        at = rng.integers(chunks), rng.integers(2)
        rows[at] = rng.choice(np.array([0, 1, 7, len(data), 2**31, 2**62, 2**63, 2**64 - 2, 2**64 - 1], np.uint64))
        file.write_bytes(body + index_of(rows))
        survive(tmp_path / "s")
    file.write_bytes(index_of(good))  # a valid index of chunks that aren't there
    survive(tmp_path / "s")


def _no_tokens(file: Any) -> None:
    del file["tokens"]


def _a_group(file: Any) -> None:
    del file["tokens"]
    file.create_group("tokens")


def _text(file: Any) -> None:
    del file["tokens"]
    file["tokens"] = ["a", "b"]


def _compound(file: Any) -> None:
    del file["start"]
    file["start"] = np.zeros(12, [("a", "i4"), ("b", "i4")])


def _matrix(file: Any) -> None:
    del file["start"]
    file["start"] = np.zeros((12, 2), np.int64)


def _huge(file: Any) -> None:
    del file["length"]
    file.create_dataset("length", shape=(2**50,), chunks=(2**20,), dtype="i8")


def _other_ids(file: Any) -> None:
    del file["ids"]
    file["ids"] = np.arange(13)


def _virtual_vector(file: Any) -> None:
    del file["start"]
    layout = h5py.VirtualLayout((12,), "i8")
    layout[:] = h5py.VirtualSource("../outside.h5", "x", (12,))
    file.create_virtual_dataset("start", layout)


def _references(file: Any) -> None:
    del file["ids"]
    file.create_dataset("ids", data=[file.ref] * 12, dtype=h5py.ref_dtype)


@pytest.mark.parametrize(
    "change",
    [_no_tokens, _a_group, _text, _compound, _matrix, _huge, _other_ids, _virtual_vector, _references],
    ids=lambda f: f.__name__[1:],
)
def test_hdf5_indexes(tmp_path: Path, change: Callable[[Any], None]) -> None:
    write(tmp_path / "s", TOY, format="hdf5")
    with h5py.File(tmp_path / "s/index.h5", "r+") as file:
        change(file)
    assert survive(tmp_path / "s")
    assert not verify(tmp_path / "s").ok


def test_nothing_of_a_store_is_imported_or_unpickled(tmp_path: Path) -> None:
    """The room's source has no way to run what it reads."""
    import umecache.stores

    for file in Path(umecache.stores.__file__).parent.glob("*.py"):
        text = file.read_text()
        for word in ("pickle.load", "eval(", "exec(", "allow_pickle=True", "np.load(", "__import__", "yaml", "marshal"):
            assert word not in text, f"{file.name} uses {word}"
