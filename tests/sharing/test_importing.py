"""Features made elsewhere: read right, named by their ids, nothing unpickled."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from umecache.errors import DataError, UsageError
from umecache.sharing.importing import ImportFacts, import_features
from umecache.stores import open_store
from umecache.stores.verify import verify

FACTS = ImportFacts("updn", "image", dataset="vqa", split="val", licence="mit")
ARRAYS = {n: np.random.default_rng(n).integers(-8, 8, (n % 3 + 1, 4)).astype(np.float32) for n in (42, 7, 100)}


def written(folder: Path, kind: str) -> Path:
    folder.mkdir()
    if kind == "npy":
        for n, values in ARRAYS.items():
            np.save(folder / f"COCO_val2014_{n:012d}.npy", values)
        return folder
    if kind == "safetensors":
        save_file({str(n): values for n, values in ARRAYS.items()}, folder / "f.safetensors")
        return folder / "f.safetensors"
    with h5py.File(folder / "f.h5", "w") as file:
        for n, values in ARRAYS.items():
            if kind == "groups":
                file[f"{n}/boxes"] = np.zeros((len(values), 4))
            file[f"{n}/features" if kind == "groups" else str(n)] = values
    return folder / "f.h5"


@pytest.mark.parametrize("kind", ["npy", "safetensors", "hdf5", "groups"])
def test_every_kind(tmp_path: Path, kind: str) -> None:
    source = written(tmp_path / "in", kind)
    facts = import_features([source], tmp_path / "s", FACTS)
    store = open_store(tmp_path / "s")
    assert store.ids_at(range(len(store))) == [7, 42, 100]
    for n, values in ARRAYS.items():
        assert np.array_equal(store[n], values)
    assert store.manifest["origin"] == {"imported": True, "licence": "mit"}
    assert store.manifest["recipe"]["imported"] is True
    assert verify(tmp_path / "s").ok
    assert import_features([source], tmp_path / "s", FACTS)["fingerprint"] == facts["fingerprint"]


def test_what_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()

    def refused(match: str) -> None:
        with pytest.raises(DataError, match=match):
            import_features([folder], tmp_path / "s", FACTS)
        assert not (tmp_path / "s").exists()

    refused("No features")
    np.save(folder / "1.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused("can't be read")
    np.save(folder / "1.npy", np.zeros((2, 3, 4), np.float32))
    refused(r"features are floating point \[T, D\]")
    np.save(folder / "1.npy", np.zeros(4, np.float32))
    np.save(folder / "a1.npy", np.zeros(4, np.float32))
    refused("the same id")
    (folder / "a1.npy").rename(folder / "a2.npy")
    np.save(folder / "a2.npy", np.zeros(5, np.float32))
    refused("width 5")
    (folder / "a2.npy").rename(folder / "nameless.npy")
    refused("has no id")
    (folder / "nameless.npy").unlink()
    (folder / "x.h5").write_text("no")
    refused("no HDF5 file")
    (folder / "x.h5").unlink()
    with h5py.File(folder / "x.h5", "w") as file:
        file["3"] = h5py.ExternalLink("/etc/passwd", "/")
    refused("holds no array")
    (folder / "x.h5").unlink()
    (folder / "x.safetensors").write_text("no")
    refused("no safetensors file")
    with pytest.raises(UsageError, match="There is no"):
        import_features([tmp_path / "nowhere"], tmp_path / "s", FACTS)
