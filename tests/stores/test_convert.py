"""Converting: nothing is lost, or it says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.stores.toy import Toy, tree, write
from umecache.stores import StoreDamaged, StoreError, StoreMismatch, open_store
from umecache.stores.convert import convert
from umecache.stores.verify import verify


@pytest.fixture
def toy() -> Toy:
    return Toy.make()


def test_another_dtype_is_another_recipe(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy, dtype="float32")
    source = open_store(tmp_path / "s")
    for dtype in ("float16", "bfloat16", "int8"):
        facts = convert(tmp_path / "s", tmp_path / dtype, dtype=dtype)
        assert not facts["lossless"]
        assert facts["fingerprint"] != source.fingerprint
        assert facts["recipe"]["dtype"] == dtype
        found = open_store(tmp_path / dtype)
        direct = write(tmp_path / f"{dtype}-direct", toy, dtype=dtype)
        assert facts["fingerprint"] == direct["fingerprint"]
        assert tree(tmp_path / dtype) == tree(tmp_path / f"{dtype}-direct"), "as if it had been extracted so"
        assert found.failures == source.failures
        for name in toy.ids:
            assert np.allclose(found[name], source[name], atol=0.04)


def test_compression_is_lossless(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy)
    facts = convert(tmp_path / "s", tmp_path / "z", compression="zstd")
    assert facts["lossless"]
    assert facts["fingerprint"] == open_store(tmp_path / "s").fingerprint
    convert(tmp_path / "z", tmp_path / "back")
    assert tree(tmp_path / "back") == tree(tmp_path / "s")
    with pytest.raises(StoreError, match="can't use compression 'zstd'"):
        convert(tmp_path / "s", tmp_path / "h", format="hdf5", compression="zstd")


def test_damage_is_not_passed_on(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy)
    file = tmp_path / "s/tokens/c/1/0"
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreDamaged, match=r"record of id .* differs from its checksum.*store repair"):
        convert(tmp_path / "s", tmp_path / "t", format="hdf5")
    data[3] ^= 1
    file.write_bytes(data)
    ticks: list[int] = []
    convert(tmp_path / "s", tmp_path / "t", format="hdf5", tick=ticks.append)  # goes on with the second shard
    assert sum(ticks) == 12
    assert verify(tmp_path / "t").ok


def test_refusals(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy)
    with pytest.raises(StoreError, match="source itself"):
        convert(tmp_path / "s", tmp_path / "s", format="hdf5")
    write(tmp_path / "other", Toy.make(ids=20))
    with pytest.raises(StoreMismatch):
        convert(tmp_path / "s", tmp_path / "other")
    for name in ("manifest.json", "CHECKSUMS"):
        (tmp_path / "s" / name).unlink()
    for file in (tmp_path / "s/receipts").iterdir():
        file.unlink()
    (tmp_path / "s/receipts").rmdir()
    with pytest.raises(StoreError, match="has no manifest"):
        convert(tmp_path / "s", tmp_path / "t")


def test_all_inputs_failed(tmp_path: Path) -> None:
    toy = Toy.make(ids=5, distinct=5, broken=5, missing=2)
    toy = Toy(toy.ids, toy.content, toy.length_of, toy.dim, frozenset(range(5)), toy.missing)
    write(tmp_path / "s", toy)
    convert(tmp_path / "s", tmp_path / "t", format="hdf5")
    convert(tmp_path / "t", tmp_path / "u", format="zarr")
    assert tree(tmp_path / "u") == tree(tmp_path / "s")
    assert len(open_store(tmp_path / "t").failures) == 5
