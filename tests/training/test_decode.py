"""Decoding on the device gives what the store itself decodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from umecache.stores import open_store, open_writer
from umecache.training.decode import as_stored, decode, to_device

LENGTHS = [3, 0, 5, 1, 5, 2]
CPU = torch.device("cpu")


@pytest.fixture(params=["float32", "float16", "bfloat16", "int8"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    writer = open_writer(
        tmp_path / "s",
        manifest={"recipe": {"test": "decode"}, "modality": "text", "model": "none"},
        ids=range(10, 16),
        digests=[f"{i:064x}" for i in range(6)],
        lengths=LENGTHS,
        dim=64,
        dtype=request.param,
        shard_records=2,
        failures={1: "not there"},
    )
    for shard in writer.claim():
        with shard:
            for i in shard.records:
                x_TD = rng.normal(size=(LENGTHS[i], 64)).astype(np.float32)
                x_TD[0, 7] = 3000 * (i == 4)  # a token that int8 keeps exactly
                shard.write(i, x_TD)
    writer.seal()
    return tmp_path / "s"


@pytest.mark.parametrize("ids", [[10, 12, 14], [14, 14, 11, 15], [11], []], ids=str)
def test_the_same_numbers_as_the_store(path: Path, ids: list[int]) -> None:
    store = open_store(path)
    expected_BTD, mask_BT = store.batch(ids)
    values = to_device(store.stored_rows(store.rows(ids)), CPU)
    tokens_BTD, found_BT = decode(values)
    assert tokens_BTD.dtype == torch.float32
    np.testing.assert_array_equal(tokens_BTD.numpy(), expected_BTD.astype(np.float32))
    np.testing.assert_array_equal(found_BT.numpy(), mask_BT)
    if ids == [10, 12, 14]:
        assert (values.exact is not None) == (store.dtype == "int8"), "the outlier travels exactly"
        assert values.tokens.element_size() == {"float32": 4, "int8": 1}.get(store.dtype, 2)


def test_bfloat16_bits() -> None:
    x = torch.tensor([1.0, -2.5, 3e38, 1e-40]).to(torch.bfloat16)
    bits = x.view(torch.int16).numpy().view(np.uint16)
    assert torch.equal(as_stored(bits), x)
