"""--retry-failed: only what failed is encoded, and the store is that of a fresh extraction of the mended data."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from tests.encoders.broken_images import photo
from tests.extraction.conftest import MakeData
from umecache.encoders.sample import SampleImage
from umecache.extraction import retry
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.extract import extract
from umecache.stores import StoreMissing, open_store
from umecache.stores.errors import StoreDamaged, StoreMismatch
from umecache.stores.verify import verify

FILES = {f"{n}.jpg": photo(48, 32, seed=n) for n in range(10)}
BROKEN = {**FILES, "3.jpg": b"not an image", "4.jpg": b"", "7.jpg": b"missing", "9.jpg": b"missing"}
HALF_MENDED = {**FILES, "4.jpg": b"", "9.jpg": b"missing"}


def _extract(data: Path, store: Path, **changes: Any) -> Any:
    config: dict[str, Any] = {"models": (ModelRequest(name="sample-image"),), "data": str(data), "store": store}
    (summary,) = extract(ExtractConfig(**{**config, "device": "cpu", "shard_records": 3, "workers": 1, **changes}))
    return summary


@pytest.fixture
def broken(make_data: MakeData, tmp_path: Path) -> tuple[Path, Path]:
    data = make_data(BROKEN)
    _extract(data, tmp_path / "store")
    return data, tmp_path / "store"


def test_what_can_be_read_now_is_encoded_and_nothing_else(
    broken: tuple[Path, Path], make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, store = broken
    before = {i: np.array(open_store(store / "train")[i]) for i in (1, 2, 3, 6)}
    encoded: list[int] = []
    encode = SampleImage.encode

    def counted(self: SampleImage, batch: Mapping[str, Tensor]) -> Tensor:
        encoded.append(len(batch["pixels"]))
        return encode(self, batch)

    monkeypatch.setattr(SampleImage, "encode", counted)
    make_data(HALF_MENDED)
    summary = _extract(data, store, retry_failed=True)
    assert sum(encoded) == 2
    assert set(summary.failures) == {5, 10}
    assert sorted(path.name for path in store.iterdir()) == ["train"], "it tidies up"
    now, fresh = open_store(store / "train"), open_store(_extract(data, tmp_path / "fresh").path)
    assert now.fingerprint == fresh.fingerprint
    for image in range(1, 11):
        np.testing.assert_allclose(now[image], fresh[image], atol=2e-3)
    for image, values in before.items():
        assert np.array_equal(now[image], values), "copied bit for bit"
    assert verify(store / "train").ok


def test_nothing_better_changes_nothing(broken: tuple[Path, Path]) -> None:
    data, store = broken
    sums = (store / "train" / "CHECKSUMS").read_bytes()
    assert _extract(data, store, retry_failed=True).encoded == 0
    assert (store / "train" / "CHECKSUMS").read_bytes() == sums


def test_without_it_mended_files_are_refused(broken: tuple[Path, Path], make_data: MakeData) -> None:
    make_data(FILES)
    with pytest.raises(StoreMismatch):
        _extract(*broken)


def test_no_store_no_retry(make_data: MakeData, tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        _extract(make_data(FILES), tmp_path / "none", retry_failed=True)


def test_other_inputs_are_refused(broken: tuple[Path, Path]) -> None:
    with pytest.raises(StoreMismatch, match="Its ids are others"):
        _extract(*broken, retry_failed=True, limit=4)


def test_a_damaged_record_is_not_copied(broken: tuple[Path, Path], make_data: MakeData) -> None:
    data, store = broken
    (shard,) = (path for path in (store / "train" / "tokens").rglob("0") if path.parent.name == "0" and path.is_file())
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    make_data(FILES)
    with pytest.raises(StoreDamaged, match="checksum"):
        _extract(data, store, retry_failed=True)
    assert (store / "train" / "CHECKSUMS").exists(), "the old store stands"


def test_it_goes_on_after_a_stop_and_never_is_there_no_store(
    broken: tuple[Path, Path], make_data: MakeData, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, store = broken
    make_data(FILES)

    class Stop(Exception):
        pass

    def stop(path: Path) -> None:
        if path.with_name("train.retry").exists():
            raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(retry, "finish_swap", stop)
        with pytest.raises(Stop):
            _extract(data, store, retry_failed=True)
    assert len(open_store(store / "train").failures) == 4, "the old one still stands"
    assert (store / "train.retry" / "CHECKSUMS").exists()
    assert _extract(data, store, retry_failed=True).failures == {}
    assert [path.name for path in store.iterdir()] == ["train"]


@pytest.mark.parametrize("moment", ["old moved away", "new in place"])
def test_the_swap_is_finished_from_any_point(broken: tuple[Path, Path], moment: str) -> None:
    _, store = broken
    path, new, old = store / "train", store / "train.retry", store / "train.before-retry"
    shutil.copytree(path, old)
    if moment == "old moved away":
        path.replace(new)
    retry.finish_swap(path)
    assert [entry.name for entry in store.iterdir()] == ["train"]
    assert len(open_store(path).failures) == 4
