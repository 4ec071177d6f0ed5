"""What every store format must do: one suite that each format inherits.

    class TestMine(StoreContract):
        format = "mine"
        compression = "zstd"                     # one that the format knows

        def by_library(self, path):                 # the arrays as the format's own library reads them
            return {"tokens": ..., "start": ..., "length": ..., "ids": ...}

A new format is done when this passes.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stores.toy import Toy, begin, copies, fill, tree, write
from umecache.stores import StoreDamaged, StoreError, StoreIncomplete, UnknownId, open_store
from umecache.stores.convert import convert
from umecache.stores.repair import reopen
from umecache.stores.verify import verify

DTYPES = ("float16", "float32", "bfloat16", "int8")


def check(path: Path, toy: Toy, *, exact: bool = True) -> None:
    """Every record of a store is what the toy encoder gives."""
    store = open_store(path)
    assert list(store.ids) == toy.ids
    assert sorted(map(str, store.failures)) == sorted(map(str, toy.failed))
    tokens_BTD, mask_BT = store.batch(toy.ids) if toy.ids else (np.empty((0, 1, toy.dim)), np.empty((0, 1), bool))
    for i, name in enumerate(toy.ids):
        expected = toy.expected(i)
        if expected is None:
            assert store[name].shape == (0, toy.dim)
            assert store.failures[name]
            assert not mask_BT[i].any()
            assert not tokens_BTD[i].any()
            continue
        found = store[name]
        # int8: half a step of the largest value of each token
        slack = 0 if exact else np.abs(expected).max(axis=1, keepdims=True) / 127 * 0.51
        assert found.dtype == (np.float16 if store.dtype == "float16" else np.float32)
        assert (np.abs(found - expected) <= slack).all()
        assert store.lengths[i] == len(expected) == mask_BT[i].sum()
        assert np.array_equal(tokens_BTD[i, : len(found)], found)
        assert not tokens_BTD[i, len(found) :].any()


def _sum_of(store: Any) -> float:
    return float(sum(store[name].astype(np.float64).sum() for name in store.ids))


class StoreContract(ABC):
    """See the module."""

    format: ClassVar[str]
    compression: ClassVar[str]

    @abstractmethod
    def by_library(self, path: Path) -> dict[str, Any]:
        """Arrays of a store as the format's own library reads them; int8 has `scale` and `exact` too."""

    @pytest.fixture
    def toy(self) -> Toy:
        return Toy.make()

    @pytest.fixture
    def path(self, tmp_path: Path, toy: Toy) -> Path:
        """A sealed store of the toy."""
        write(tmp_path / "s", toy, format=self.format)
        return tmp_path / "s"

    # Values

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize("toy", [Toy.make(), Toy.make(ragged=False, strings=True)], ids=["ragged", "fixed-str"])
    def test_round_trip(self, tmp_path: Path, toy: Toy, dtype: str, compressed: bool) -> None:
        compression = self.compression if compressed else None
        facts = write(tmp_path / "s", toy, format=self.format, dtype=dtype, compression=compression)
        check(tmp_path / "s", toy, exact=dtype != "int8")
        assert facts["records"] == len(toy.ids)
        assert facts["tokens"] == sum(toy.length_of.values())
        assert verify(tmp_path / "s").ok

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("compressed", [False, True])
    def test_standard_library_reads_it(self, tmp_path: Path, dtype: str, compressed: bool) -> None:
        toy = Toy.make()
        compression = self.compression if compressed else None
        write(tmp_path / "s", toy, format=self.format, dtype=dtype, compression=compression)
        arrays = self.by_library(tmp_path / "s")
        tokens = arrays["tokens"]
        if dtype == "bfloat16":
            tokens = (tokens.astype(np.uint32) << 16).view(np.float32)
        if dtype == "int8":
            tokens = tokens * arrays["scale"][:, None] + arrays["exact"]
        store = open_store(tmp_path / "s")
        assert [str(name) for name in arrays["ids"]] == [str(name) for name in toy.ids]
        for name, start, length in zip(toy.ids, arrays["start"], arrays["length"], strict=True):
            assert np.array_equal(tokens[start : start + length], store[name])

    @settings(
        max_examples=int(os.environ.get("UMECACHE_FUZZ", "12")), deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(data=st.data())
    def test_any_inputs(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
        n = data.draw(st.integers(0, 12), "ids")
        text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6)
        ids = data.draw(
            st.lists(st.integers(-(2**63), 2**63 - 1), min_size=n, max_size=n, unique=True)
            | st.lists(text, min_size=n, max_size=n, unique=True)
        )
        content = data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
        toy = Toy(
            ids=ids,
            content=content,
            length_of={c: data.draw(st.integers(0, 4)) for c in range(6)},
            dim=data.draw(st.integers(1, 5)),
            missing=dict.fromkeys(data.draw(st.sets(st.integers(0, max(n - 1, 0)), max_size=2)) if n else (), "gone"),
        )
        # An input of no tokens is never encoded, so it can't fail.
        broken = data.draw(st.frozensets(st.integers(0, 5), max_size=2))
        toy = replace(toy, broken=frozenset(c for c in broken if toy.length_of[c]))
        dtype = data.draw(st.sampled_from(DTYPES))
        compression = data.draw(st.sampled_from([None, self.compression]))
        records = data.draw(st.integers(1, 4))
        path = tmp_path_factory.mktemp("any") / "s"
        write(path, toy, format=self.format, dtype=dtype, compression=compression, shard_records=records)
        check(path, toy, exact=dtype != "int8")
        assert verify(path).ok
        arrays = self.by_library(path)
        assert arrays["tokens"].shape[1] == toy.dim
        assert [str(name) for name in arrays["ids"]] == [str(name) for name in toy.ids]

    def test_equal_inputs_are_stored_once(self, path: Path, toy: Toy) -> None:
        store = open_store(path)
        again = [i for i in range(17, 23) if toy.expected(i) is not None]
        assert again, "the toy has repeats"
        for i in again:
            first = toy.ids[toy.content[i]]
            assert np.shares_memory(store[toy.ids[i]], store[first])
        assert store.manifest["distinct"] == 17

    def test_zero_records_are_stored(self, tmp_path: Path) -> None:
        toy = Toy.make(missing=0, broken=0)
        zeros = Toy(toy.ids, toy.content, toy.length_of, toy.dim, scale=0.0)
        for dtype in DTYPES:
            write(tmp_path / dtype, zeros, format=self.format, dtype=dtype)
            check(tmp_path / dtype, zeros)

    # Views

    def test_records_are_read_only_views(self, path: Path, toy: Toy) -> None:
        store = open_store(path)
        record = store[toy.ids[0]]
        assert np.shares_memory(record, store[toy.ids[0]])
        assert not record.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            record[0, 0] = 1

    def test_batch_into_a_buffer(self, path: Path, toy: Toy) -> None:
        store = open_store(path)
        names = [toy.ids[i] for i in (5, 0, 3, 5, 23)]  # a repeat, a broken and a missing input
        buffer = np.full((5, 9, toy.dim), np.nan, np.float32)
        tokens, mask = store.batch(names, out=buffer)
        assert tokens is buffer
        assert np.isfinite(buffer).all()
        plain, plain_mask = store.batch(names, pad_to=9)
        assert np.array_equal(plain, buffer)
        assert np.array_equal(mask, plain_mask)
        assert mask.sum(axis=1).tolist() == [len(store[name]) for name in names]
        assert store.batch(names)[0].shape[1] == max(len(store[name]) for name in names)

    def test_batch_refuses_what_does_not_fit(self, path: Path, toy: Toy) -> None:
        store = open_store(path)
        longest = int(store.lengths.max())
        names = toy.ids[:6]
        with pytest.raises(StoreError, match="doesn't fit"):
            store.batch(toy.ids, pad_to=longest - 1)
        with pytest.raises(StoreError, match="buffer"):
            store.batch(names, out=np.empty((5, longest, toy.dim), np.float32))
        with pytest.raises(StoreError, match="buffer"):
            store.batch(names, out=np.empty((6, longest, toy.dim + 1), np.float32))

    def test_unknown_ids(self, path: Path, toy: Toy) -> None:
        store = open_store(path)
        for name in (-5, "no", 2**70, None, 1.5, True):
            assert name not in store
            with pytest.raises(UnknownId, match="no id"):
                store[name]  # type: ignore[index]
        assert toy.ids[0] in store
        assert np.int64(toy.ids[0]) in store
        with pytest.raises(UnknownId, match="no id -5, -6, -7 and 1 more"):
            store.rows([-5, -6, toy.ids[0], -7, -8])
        for odd in (["x"], [1.5], [True], [[1, 2]], [[1], [2, 3]], [2**70], [None]):
            with pytest.raises(KeyError):
                store.rows(odd)

    # Processes

    def test_threads_forks_and_spawned_workers(self, path: Path) -> None:
        store = open_store(path)
        total = _sum_of(store)
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(_sum_of, [open_store(path)] * 8)) == {total}
        sent = bytes(ForkingPickler.dumps(store))  # what a DataLoader sends to its workers
        again = ForkingPickler.loads(sent)
        assert _sum_of(again) == total
        assert again.fingerprint == store.fingerprint
        assert len(sent) < 1000
        with multiprocessing.get_context("spawn").Pool(1) as spawned:
            assert spawned.apply(_sum_of, [store]) == total

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_fork_after_reading(self, path: Path) -> None:
        script = (
            "import os, sys, numpy as np\n"
            "from umecache.stores import open_store\n"
            "store = open_store(sys.argv[1])\n"
            "total = lambda: float(sum(store[i].astype(float).sum() for i in store.ids))\n"
            "expected = total()\n"
            "pids = []\n"
            "for _ in range(3):\n"
            "    pid = os.fork()\n"
            "    if pid == 0: os._exit(0 if total() == expected else 1)\n"
            "    pids.append(pid)\n"
            "sys.exit(sum(os.waitpid(pid, 0)[1] for pid in pids))\n"
        )
        assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == 0

    # Bytes

    def test_same_facts_give_the_same_bytes(self, tmp_path: Path, path: Path, toy: Toy) -> None:
        writer = begin(tmp_path / "t", toy, format=self.format)
        for shard in writer.claim():
            with shard:
                for position in reversed(shard.records):  # any order within a shard
                    if toy.content[position] in toy.broken:
                        shard.fail(position, "not an image", "ab" * 32)
                    else:
                        shard.write(position, toy.encode(toy.content[position]))
        writer.seal()
        assert tree(tmp_path / "t") == tree(path)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_interrupted_writing_ends_with_the_same_bytes(self, tmp_path: Path, toy: Toy, dtype: str) -> None:
        write(tmp_path / "whole", toy, format=self.format, dtype=dtype)
        path = tmp_path / "s"
        for finished in range(4):  # each run finishes one shard and breaks in the middle of the next
            writer = begin(path, toy, format=self.format, dtype=dtype)
            assert writer.done == finished
            before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in path.rglob("*") if p.is_file()}
            with pytest.raises(RuntimeError):
                for n, shard in enumerate(writer.claim()):
                    if n == 0:
                        fill(shard, toy)
                        continue
                    with shard:
                        for position in shard.records[:2]:
                            if toy.content[position] not in toy.broken:
                                shard.write(position, toy.encode(toy.content[position]))
                        raise RuntimeError("the machine stops here")
                raise RuntimeError("no shard was left to break in")
            with pytest.raises(StoreIncomplete, match=rf"not complete: {finished + 1} of 4 shards"):
                open_store(path)
            for file, state in before.items():
                assert (file.stat().st_mtime_ns, file.stat().st_ino) == state, "a finished file was written again"
            assert not list((path / ".writing" / "tmp").glob("0*"))
        writer = begin(path, toy, format=self.format, dtype=dtype)
        assert list(writer.claim()) == []
        writer.seal()
        assert tree(path) == tree(tmp_path / "whole")

    def test_sealed_store_lists_all_its_files(self, path: Path) -> None:
        files = set(tree(path)) - {"CHECKSUMS"}
        lines = (path / "CHECKSUMS").read_text().splitlines()
        assert [line.split("  ")[1] for line in lines] == sorted(files)
        if shutil.which("sha256sum"):
            subprocess.run(["sha256sum", "-c", "--strict", "--quiet", "CHECKSUMS"], cwd=path, check=True)
        assert not list(path.glob(".*"))

    def test_copies_are_the_same_store(self, tmp_path: Path, path: Path, toy: Toy) -> None:
        here = open_store(path)
        archive = shutil.make_archive(str(tmp_path / "archive"), "tar", path)
        shutil.unpack_archive(archive, tmp_path / "untarred", filter="data")
        shutil.copytree(path, tmp_path / "elsewhere" / "copied")
        shutil.move(path, tmp_path / "moved")
        for copied in (tmp_path / "untarred", tmp_path / "elsewhere" / "copied", tmp_path / "moved"):
            assert open_store(copied).fingerprint == here.fingerprint
            check(copied, toy)
            assert verify(copied).ok

    def test_read_only_store(self, path: Path, toy: Toy) -> None:
        before = tree(path)
        for item in [*path.rglob("*"), path]:
            item.chmod(0o555 if item.is_dir() else 0o444)
        try:
            check(path, toy)
            assert verify(path).ok
            assert begin(path, toy, format=self.format).complete
            assert tree(path) == before
        finally:
            for item in [path, *path.rglob("*")]:
                item.chmod(0o755 if item.is_dir() else 0o644)

    def test_convert_there_and_back(self, tmp_path: Path, toy: Toy) -> None:
        other = "hdf5" if self.format == "zarr" else "zarr"
        for dtype in DTYPES:
            path = tmp_path / dtype
            write(path, toy, format=self.format, dtype=dtype, files={"weights.bin": b"123"})
            there = convert(path, tmp_path / f"{dtype}-there", format=other)
            assert there["lossless"]
            assert there["fingerprint"] == open_store(path).fingerprint
            convert(tmp_path / f"{dtype}-there", tmp_path / f"{dtype}-back", format=self.format)
            assert tree(tmp_path / f"{dtype}-back") == tree(path)

    # Damage

    def test_every_flipped_byte_is_found(self, path: Path) -> None:
        for name, data in tree(path).items():
            for _ in copies(path / name, data):
                assert not verify(path).ok, name
        assert verify(path).ok

    def test_damaged_records_are_named(self, path: Path, toy: Toy) -> None:
        store = open_store(path)
        position = 17  # repeats an earlier input
        victim = toy.ids[position]
        raw = store.raw(victim).tobytes()
        del store
        (file,) = [p for p in path.rglob("*") if p.is_file() and raw in p.read_bytes() and p.stat().st_size < 1 << 20][
            :1
        ]
        data = bytearray(file.read_bytes())
        data[data.find(raw) + 3] ^= 0x40
        file.write_bytes(data)
        (damage,) = verify(path).damaged
        assert set(damage.ids) == {name for i, name in enumerate(toy.ids) if toy.content[i] == toy.content[position]}
        assert verify(path).shards == [damage.shard]
        sampled = verify(path, sample=1.0)
        assert sampled.damaged[0].ids == damage.ids

    @pytest.mark.parametrize("how", ["truncated", "longer", "missing", "empty"])
    def test_shards_are_checked_at_opening(self, path: Path, how: str) -> None:
        manifest = open_store(path).manifest
        file = path / manifest["layout"]["shards"][2]["files"][-1]["path"]
        data = file.read_bytes()
        if how == "missing":
            file.unlink()
        else:
            file.write_bytes({"truncated": data[:-1], "longer": data + b"\0", "empty": b""}[how])
        with pytest.raises(StoreDamaged, match=r"Shard 2 of .* is damaged"):
            open_store(path)
        found = verify(path)
        assert found.shards == [2]
        (damage,) = found.damaged
        assert damage.ids or (how in ("longer", "truncated") and "still sound" in damage.reason)

    def test_repair_restores_the_same_bytes(self, path: Path, toy: Toy) -> None:
        before = tree(path)
        shards = open_store(path).manifest["layout"]["shards"]
        (path / shards[1]["files"][0]["path"]).unlink()
        broken = path / shards[3]["files"][0]["path"]
        broken.write_bytes(broken.read_bytes()[:-40] + b"\0" * 40)
        kept = path / shards[0]["files"][0]["path"]
        state = kept.stat().st_mtime_ns, kept.stat().st_ino
        writer = reopen(path)
        redone = []
        for shard in writer.claim():
            redone.append(shard.index)
            fill(shard, toy)
        writer.seal()
        assert redone == [1, 3]
        assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == state
        assert tree(path) == before

    def test_library_path_for_foreign_layouts(self, tmp_path: Path, path: Path, toy: Toy) -> None:
        foreign = self.foreign(tmp_path, self.by_library(path))
        store = open_store(foreign)
        assert store.fingerprint == ""
        for i, name in enumerate(toy.ids):
            expected = toy.expected(i)
            assert np.array_equal(store[name], np.empty((0, toy.dim)) if expected is None else expected)
        assert np.array_equal(store.batch(toy.ids)[0], open_store(path).batch(toy.ids)[0])
        with pytest.raises(StoreError, match="no checksums"):
            verify(foreign)

    @abstractmethod
    def foreign(self, folder: Path, arrays: dict[str, Any]) -> Path:
        """The same arrays, written by the library in a layout of its own choice."""
