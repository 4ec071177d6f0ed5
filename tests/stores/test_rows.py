"""Rows of sharded arrays: views where bytes allow it, copies where not, never the wrong ones."""

from __future__ import annotations

import math
import mmap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stores.toy import Toy, write
from umecache.stores import StoreDamaged, open_store
from umecache.stores import rows as module
from umecache.stores.files import map_file
from umecache.stores.rows import ChunkTable, Decoded, Rows, SparseRows, _map_of, arrange

F4 = np.dtype("<f4")


def buffer_of(values: np.ndarray, order: list[int], chunk_rows: int, gap: int) -> tuple[np.ndarray, np.ndarray]:
    """The chunks of `values` in some order with gaps between them, and where each one lies."""
    step = chunk_rows * values.shape[1] * 4
    parts, offset, at = [], np.full(len(values) // chunk_rows, -1), 0
    for chunk in order:
        offset[chunk] = at
        parts.append(values[chunk * chunk_rows : (chunk + 1) * chunk_rows].tobytes() + b"\xff" * gap)
        at += step + gap
    raw = np.frombuffer(b"".join(parts), np.uint8)
    return raw, offset


@given(
    order=st.permutations(range(5)),
    gap=st.sampled_from([0, 4]),
    chunk_rows=st.integers(1, 3),
    span=st.tuples(st.integers(0, 14), st.integers(0, 14)),
)
def test_any_order_of_chunks_reads_right(order: list[int], gap: int, chunk_rows: int, span: tuple[int, int]) -> None:
    values = np.arange(5 * chunk_rows * 2, dtype=F4).reshape(-1, 2)
    raw, offset = buffer_of(values, order, chunk_rows, gap)
    found = arrange(raw, F4, (2,), chunk_rows, offset, strict=None)
    assert isinstance(found, np.ndarray) == (order == sorted(order) and gap == 0)
    start, stop = sorted(min(at, len(values)) for at in span)
    assert len(found) == len(values)
    assert np.array_equal(found[start:stop], values[start:stop])


def test_neighbours_in_the_file_are_a_view_although_the_shard_is_none() -> None:
    values = np.arange(12, dtype=F4).reshape(6, 2)
    raw, offset = buffer_of(values, [2, 0, 1], 2, 0)
    table = arrange(raw, F4, (2,), 2, offset, strict=None)
    assert isinstance(table, ChunkTable)
    assert np.shares_memory(table[0:4], raw)
    assert not np.shares_memory(table[2:6], raw)


def test_absent_chunks_are_zeros_or_damage(tmp_path: Path) -> None:
    values = np.ones((6, 2), F4)
    raw, offset = buffer_of(values, [0, 2], 2, 0)
    assert arrange(raw, F4, (2,), 2, offset, strict=None)[1:5].tolist() == [[1, 1], [0, 0], [0, 0], [1, 1]]
    strict = arrange(raw, F4, (2,), 2, offset, strict=tmp_path / "shard")
    assert strict[0:2].all()
    with pytest.raises(StoreDamaged, match="shard lacks a record"):
        strict[1:5]


def rows_over(shards: list[np.ndarray], shard_rows: int) -> tuple[Rows, list[int]]:
    loaded: list[int] = []

    def load(k: int) -> np.ndarray:
        loaded.append(k)
        return shards[k]

    return Rows(Path("store"), shard_rows, len(shards), load, np.empty((0, 1), F4)), loaded


def test_shards_are_loaded_when_asked_for() -> None:
    shards = [np.arange(10 * k, 10 * k + 4, dtype=F4)[:, None] for k in range(3)]
    rows, loaded = rows_over(shards, 5)
    assert rows.read(11, 2).ravel().tolist() == [21, 22]
    assert rows.read(10, 1).ravel().tolist() == [20]
    assert loaded == [2]
    assert rows.read(10**9, 0).shape == (0, 1), "a record of no rows lies nowhere"


@pytest.mark.parametrize(("start", "n"), [(3, 2), (4, 1), (15, 1), (-1, 1), (0, -1), (0, 2**62), (2**62, 1)])
def test_places_outside_are_damage(start: int, n: int) -> None:
    rows, _ = rows_over([np.zeros((4, 1), F4)] * 3, 5)
    with pytest.raises(StoreDamaged, match="store places a record"):
        rows.read(start, n)


def test_only_so_many_maps_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MAPS", 2)
    rows, loaded = rows_over([np.full((4, 1), k, F4) for k in range(4)], 4)
    for k in (0, 1, 2, 3, 3, 2, 0):
        assert rows.read(4 * k, 4)[0, 0] == k
    assert loaded == [0, 1, 2, 3, 0]


def test_decoded_rows_pass_through_the_codec() -> None:
    decoded = Decoded(4, lambda start, stop: np.arange(start, stop, dtype=F4)[:, None])
    assert len(decoded) == 4
    assert decoded[1:3].ravel().tolist() == [1, 2]


def test_sparse_rows() -> None:
    values = np.arange(6, dtype=F4).reshape(3, 2)
    sparse = SparseRows(np.frombuffer(values.tobytes(), np.uint8), F4, 2, np.array([2, 5, 9]), np.array([16, 0, 8]))
    assert len(sparse) == 3
    rows, found = sparse.find(4, 6)
    assert rows.tolist() == [1, 5]
    assert found.tolist() == [[0, 1], [2, 3]]
    rows, found = sparse.find(6, 3)
    assert len(rows) == 0
    assert found.shape == (0, 2)


@pytest.mark.parametrize("form", ["zarr", "hdf5"])
def test_records_that_come_from_the_disk_are_asked_for_ahead(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = Toy.make(ids=30, distinct=24)
    write(tmp_path / "s", toy, format=form)
    store = open_store(tmp_path / "s")
    expected, _ = store.batch(store.ids)
    asked: list[tuple[int, int, int]] = []
    ask = Rows._ask_for
    monkeypatch.setattr(Rows, "_ask_for", lambda rows, *place: (asked.append(place), ask(rows, *place))[1])
    monkeypatch.setattr(module, "COLD", 0.0)  # nothing is that slow
    store.batch(store.ids)
    asked.clear()
    store.batch(store.ids)
    assert not asked
    monkeypatch.setattr(module, "COLD", math.inf)
    store.batch(store.ids)
    assert not asked, "a batch has to be slow first"
    tokens, _ = store.batch(store.ids)
    assert len(asked) == len(store) - 1, "all but the first, which shows whether that is needed"
    assert np.array_equal(tokens, expected)


def test_what_is_asked_for_is_the_record_in_whole_pages(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(40_000))
    view = map_file(tmp_path / "f")[40:].view(F4).reshape(-1, 2)
    rows = Rows(tmp_path, len(view), 1, lambda k: view, np.empty((0, 2), F4))
    asked: list[tuple[int, int, int]] = []

    class Map:
        def madvise(self, *arguments: int) -> None:
            asked.append(arguments)  # type: ignore[arg-type]

    rows._ask_for(0, 3, 2)  # opens the shard; the system takes the hint without complaint
    real, first = rows._maps[0]
    assert first == 40
    rows._maps[0] = (Map(), first)  # type: ignore[assignment]
    rows._ask_for(0, 2000, 5)
    ((advice, start, size),) = asked
    begin, end = 40 + 2000 * 8, 40 + 2005 * 8
    assert advice == mmap.MADV_WILLNEED
    assert start % mmap.PAGESIZE == 0 and start <= begin < start + mmap.PAGESIZE
    assert start + size == end
    real.madvise(advice, start, size)  # and these numbers are ones that the system takes


def test_the_map_behind_an_array(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(range(200)))
    buffer = map_file(tmp_path / "f")
    file, first = _map_of(buffer[40:80].view(F4).reshape(-1, 2)) or (None, -1)
    assert first == 40 and file is not None and file[40:44] == bytes(range(40, 44))
    assert _map_of(np.zeros(4)) is None and _map_of(np.frombuffer(b"abc", np.uint8)) is None
