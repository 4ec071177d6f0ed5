"""Sources by themselves; batches through them are in test_batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from umecache.stores import open_store
from umecache.training.sources import FromStore, InMemory, Staging, bytes_needed, distinct

CPU = torch.device("cpu")


@pytest.fixture
def path(kit: Any, tmp_path: Path) -> Path:
    items = {n: np.full((1 + n % 3, 4), n, np.float32) for n in range(6)}
    same = {n: f"{n % 5:064x}" for n in range(6)}  # 0 and 5 are one input
    items[5] = items[0]
    made: Path = kit.store(tmp_path / "store", "image", {**items, 6: None}, digests=same)
    return made


def test_equal_inputs_are_one_record(path: Path) -> None:
    store, ids = open_store(path), np.array([5, 1, 0, 6, 1])
    rows, record_of = distinct(store, ids)
    assert len(rows) == 3 and record_of[0] == record_of[2] and record_of[1] == record_of[4]
    assert bytes_needed(store, ids) == (1 + 2) * 4 * 2


@pytest.mark.parametrize("window", [0, 2, 100])
def test_all_sources_agree(path: Path, window: int) -> None:
    store, ids = open_store(path), np.array([5, 1, 2, 6, 4, 0, 3])
    kept, read = InMemory(store, ids, keep=CPU, device=CPU), FromStore(store, ids, device=CPU, window=window)
    for index in ([0, 1], [3], [5, 0, 4], [6, 2], [0, 1, 2, 3, 4, 5, 6], [2, 2]):
        for one, other in zip(kept.gather(np.array(index)), read.gather(np.array(index)), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("window", [0, 3, 100])
def test_every_dtype_is_decoded_as_the_store_decodes_it(kit: Any, tmp_path: Path, dtype: str, window: int) -> None:
    rng = np.random.default_rng(0)
    items: dict[int, Any] = {n: rng.normal(size=(1 + n % 3, 64)).astype(np.float32) for n in range(8)}
    items[2][1, 5] = items[6][0, 9] = 5000  # tokens that int8 keeps exactly
    store = open_store(kit.store(tmp_path / "store", "image", items, dtype=dtype))
    ids = np.array([7, 2, 5, 0, 6, 1])
    expected = {n: torch.from_numpy(store[n].astype(np.float32)) for n in range(8)}
    for source in (InMemory(store, ids, keep=CPU, device=CPU), FromStore(store, ids, device=CPU, window=window)):
        for index in ([0, 1, 4], [2, 3], [1], [4, 1, 5], [0, 2, 4], [1, 1]):
            tokens_BTD, mask_BT = source.gather(np.array(index))
            assert tokens_BTD.dtype == torch.float32
            for row_TD, real_T, place in zip(tokens_BTD, mask_BT, index, strict=True):
                assert torch.equal(row_TD[real_T], expected[int(ids[place])])
                assert not row_TD[~real_T].any()


def test_what_is_sent_is_a_copy() -> None:
    staging = Staging(CPU)
    first = staging.room((2, 3), torch.float16).fill_(1)
    sent = staging.send(first)
    staging.room((2, 3), torch.float16).fill_(2)
    assert sent.dtype == torch.float16 and bool((sent == 1).all())
