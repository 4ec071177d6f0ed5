"""Batches: what is in them, in which order, and how often the store is read."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from umecache.stores import open_store
from umecache.training.batches import FeatureReader, batches, room_for
from umecache.training.order import epoch_order

CPU = torch.device("cpu")
RESIDENCIES = ("memory", "store")


def records(dim: int = 6, count: int = 10) -> dict[int, np.ndarray[Any, Any] | None]:
    """Lengths 1 to 4; record 13 could not be read."""
    rng = np.random.default_rng(0)
    items: dict[int, np.ndarray[Any, Any] | None] = {
        10 + n: rng.normal(size=(1 + n % 4, dim)).astype(np.float32) for n in range(count)
    }
    items[13] = None
    return items


@pytest.fixture(params=["float16", "float32", "bfloat16"])
def path(request: pytest.FixtureRequest, kit: Any, tmp_path: Path) -> Path:
    made: Path = kit.store(tmp_path / "store", "image", records(), dtype=request.param)
    return made


def reader(path: Path, ids: list[int], residency: Any = "memory") -> FeatureReader:
    return FeatureReader({"image": (open_store(path), np.array(ids, dtype=np.int64))}, device=CPU, residency=residency)


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_records_come_back_padded_to_the_batch_s_longest(path: Path, residency: str) -> None:
    ids = [12, 10, 13, 12, 11]  # lengths 3, 1, failed, 3, 2
    batch = reader(path, ids, residency).gather(np.arange(5))
    tokens_BTD, mask_BT = batch.features["image"]
    assert tokens_BTD.shape == (5, 3, 6) and tokens_BTD.dtype == torch.float32
    assert mask_BT.sum(1).tolist() == [3, 1, 0, 3, 2]
    assert not tokens_BTD[~mask_BT].any()
    store = open_store(path)
    for row, key in enumerate(ids):
        expected = np.asarray(store[key], np.float32)
        np.testing.assert_array_equal(tokens_BTD[row, : len(expected)].numpy(), expected)


def test_memory_and_store_give_the_same(path: Path) -> None:
    ids = list(np.random.default_rng(1).integers(10, 20, 40))
    first, second = (reader(path, ids, residency) for residency in RESIDENCIES)
    for one, other in zip(
        batches(first, np.arange(40), batch_size=7), batches(second, np.arange(40), batch_size=7), strict=True
    ):
        for a, b in zip(one.features["image"], other.features["image"], strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_a_batch_keeps_its_values_while_later_ones_are_gathered(path: Path, residency: str) -> None:
    source = reader(path, [10, 11, 12, 14, 15, 16], residency)
    kept = [batch.features["image"][0] for batch in batches(source, np.arange(6), batch_size=1)]
    for row, tokens_BTD in enumerate(kept):
        assert torch.equal(tokens_BTD, source.gather(np.array([row])).features["image"][0])


def test_batches_follow_the_index_and_the_last_may_be_smaller(path: Path) -> None:
    source = reader(path, list(range(10, 20)))
    index = np.array([9, 0, 5, 3, 7])
    assert [batch.index.tolist() for batch in batches(source, index, batch_size=2)] == [[9, 0], [5, 3], [7]]
    assert list(batches(source, index[:0], batch_size=2)) == []


def test_a_batch_of_failed_inputs_has_one_masked_token(path: Path) -> None:
    for residency in RESIDENCIES:
        tokens_BTD, mask_BT = reader(path, [13, 13], residency).gather(np.arange(2)).features["image"]
        assert tokens_BTD.shape == (2, 1, 6)
        assert not mask_BT.any() and not tokens_BTD.any()


def test_bytes_read_once_in_memory_and_each_time_from_the_store(kit: Any, tmp_path: Path) -> None:
    path = kit.store(tmp_path / "store", "image", records(), dtype="float16")
    ids = [12, 10, 12, 13]  # 3 + 1 distinct tokens; 3 + 1 + 3 read from the store
    kept, streamed = (reader(path, ids, residency) for residency in RESIDENCIES)
    assert (kept.bytes_read, streamed.bytes_read) == (4 * 6 * 2, 0)
    for _ in range(2):
        for source in (kept, streamed):
            assert len(list(batches(source, np.arange(4), batch_size=3))) == 2
    assert (kept.bytes_read, streamed.bytes_read) == (4 * 6 * 2, 2 * 7 * 6 * 2)


def test_auto_keeps_what_is_small(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reader(path, [10, 11], "auto").residency == "memory"
    monkeypatch.setattr("umecache.training.batches.free_memory", lambda device: 100)
    assert reader(path, list(range(10, 20)), "auto").residency == "store"
    assert reader(path, list(range(10, 20)), "memory").residency == "memory"


def test_a_gpu_keeps_what_fits_and_ram_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umecache.training.batches.free_memory", lambda device: 400 if device.type == "cuda" else 4000)
    gpu = torch.device("cuda")
    assert [room_for(size, gpu) for size in (100, 101, 1000, 1001)] == ["device", "memory", "memory", "store"]
    assert [room_for(size, CPU) for size in (1000, 1001)] == ["memory", "store"]


@pytest.mark.parametrize("length", [3, None])
def test_with_windows_every_image_is_read_once(kit: Any, tmp_path: Path, length: int | None) -> None:
    rng = np.random.default_rng(0)
    items = {n: rng.normal(size=(length or 1 + n % 4, 6)).astype(np.float16) for n in range(40)}
    store = open_store(kit.store(tmp_path / "store", "image", items))
    images = np.repeat(np.arange(40), 5)
    order = epoch_order(np.arange(200), order_seed=0, epoch=0, images=images, window=4)
    windowed = FeatureReader({"image": (store, images)}, device=CPU, residency="store", window=8)
    plain = FeatureReader({"image": (store, images)}, device=CPU, residency="store")
    pairs = zip(batches(windowed, order, batch_size=7), batches(plain, order, batch_size=7), strict=True)
    for one, other in pairs:
        assert torch.equal(one.features["image"][0], other.features["image"][0])
        assert torch.equal(one.features["image"][1], other.features["image"][1])
    assert windowed.bytes_read == sum(record.nbytes for record in items.values())
    assert plain.bytes_read == 5 * windowed.bytes_read


def test_a_batch_of_more_images_than_are_kept_is_read_anew(kit: Any, tmp_path: Path) -> None:
    items = {n: np.full((2, 6), n, np.float16) for n in range(9)}
    store = open_store(kit.store(tmp_path / "store", "image", items))
    source = FeatureReader({"image": (store, np.arange(9))}, device=CPU, residency="store", window=3)
    for _ in range(2):
        tokens_BTD, _ = source.gather(np.arange(9)).features["image"]
        assert tokens_BTD[:, 0, 0].tolist() == list(range(9))
    for index in ([0, 1, 2], [3, 1, 8], [0, 3, 1]):
        tokens_BTD, _ = source.gather(np.array(index)).features["image"]
        assert tokens_BTD[:, 0, 0].tolist() == index


def test_waiting_is_counted(path: Path) -> None:
    source = reader(path, [10] * 20)
    for _ in batches(source, np.arange(20), batch_size=5):
        pass
    assert 0 < source.waited <= source.looped


def test_leaving_early_stops_the_thread(path: Path) -> None:
    def gathering() -> set[int | None]:
        return {thread.ident for thread in threading.enumerate() if thread.name == "umecache-batches"}

    before = gathering()
    source = batches(reader(path, [10] * 50), np.arange(50), batch_size=1)
    next(source)
    assert gathering() - before
    source.close()
    assert not gathering() - before


def test_an_error_of_the_thread_reaches_the_caller(path: Path) -> None:
    with pytest.raises(IndexError):
        list(batches(reader(path, [10, 11]), np.array([0, 5]), batch_size=1))
