"""A damaged store is made what it was from the model and the inputs that its manifest names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.stores.toy import tree
from umecache.data.sample import write_sample
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.extract import extract
from umecache.extraction.repair import repair
from umecache.stores import StoreMismatch, open_store
from umecache.stores.errors import StoreDamaged, StoreIncomplete
from umecache.stores.repair import reopen
from umecache.stores.verify import verify


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_sample(tmp_path_factory.mktemp("data") / "sample", images=100, seed=0)
    first = sorted((folder / "images").glob("*"))[0]
    first.write_bytes(first.read_bytes()[:200])  # an input that can't be read, and stays so
    return folder


@pytest.fixture(scope="module", params=[("sample-text", "zarr"), ("sample-image", "hdf5"), ("sample-image", "zarr")])
def whole(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, form = request.param
    folder = tmp_path_factory.mktemp("stores")
    extract(
        ExtractConfig(
            models=(ModelRequest(name=model),),
            data=str(data),
            splits=("train",),
            store=folder,
            format=form,
            dtype="int8" if model == "sample-text" else "float16",
            shard_records=25,
            batch_size=7,
            device="cpu",
            workers=1,
        )
    )
    return folder / "train"


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "train"))


def shard_file(path: Path, k: int) -> Path:
    """The file of shard k with the most bytes."""
    layout = open_store(path).manifest["layout"]["shards"][k]
    return path / str(max(layout["files"], key=lambda file: file["bytes"])["path"])


def damage(path: Path, k: int) -> None:
    file = shard_file(path, k)
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0x40
    file.write_bytes(data)


def test_only_damaged_shards_are_written_again(path: Path, data: Path) -> None:
    before, files = tree(path), {k: shard_file(path, k) for k in range(2)}
    kept = files[0].stat().st_mtime_ns
    damage(path, 1)
    repaired = repair(path, data=str(data))
    assert repaired.shards == (1,)
    assert repaired.records == 25
    assert repaired.same_bytes
    assert tree(path) == before
    assert files[0].stat().st_mtime_ns == kept
    assert repair(path).sound, "a sound store needs no data"


def test_a_repair_that_was_stopped_goes_on(path: Path, data: Path) -> None:
    before = tree(path)
    damage(path, 0)
    reopen(path)
    with pytest.raises(StoreIncomplete):
        open_store(path)
    assert repair(path, data=str(data)).shards == (0,)
    assert tree(path) == before


def test_metadata_alone_needs_neither_model_nor_data(path: Path) -> None:
    before = tree(path)
    (path / "CHECKSUMS").write_text("nonsense")
    repaired = repair(path, data="/nowhere")
    assert (repaired.shards, repaired.records, repaired.same_bytes) == ((), 0, False)
    assert tree(path) == before


def test_other_inputs_change_nothing(path: Path, data: Path, tmp_path: Path) -> None:
    other = write_sample(tmp_path / "other", images=100, seed=1)
    damage(path, 1)
    before = tree(path)
    with pytest.raises(StoreMismatch, match=r"Inputs of damaged shards differ.*Nothing was changed.*--data"):
        repair(path, data=str(other))
    assert tree(path) == before
    assert not verify(path).ok


def test_another_encoder_changes_nothing(path: Path, data: Path, tmp_path: Path) -> None:
    manifest = path / "manifest.json"
    damage(path, 1)
    kinds = {"sample-image": "sample-text", "sample-text": "sample-image"}
    told = json.loads(manifest.read_text())
    told["model"] = kinds[told["model"]]
    manifest.write_text(json.dumps(told))
    before = tree(path)
    with pytest.raises((StoreMismatch, StoreDamaged)):
        repair(path, data=str(data))
    assert tree(path) == before


def test_a_store_that_was_never_finished(data: Path, tmp_path: Path) -> None:
    (tmp_path / "s/.writing").mkdir(parents=True)
    (tmp_path / "s/.writing/plan.json").write_text("{}")
    with pytest.raises(StoreIncomplete):
        repair(tmp_path / "s", data=str(data))
