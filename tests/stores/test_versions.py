"""Stores of every version of the format, in `versions/N`: each opens, is sound, holds its values and can be renewed.

    python -m tests.stores.test_versions tests/stores/versions/2     # once, when FORMAT_VERSION becomes 2

Format 1 has not changed by a byte since stores were first written in it; the last test sees to that.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.stores.toy import FACTS, Toy, begin, tree, write
from umecache.sharing.gc import examine
from umecache.stores import StoreDamaged, StoreTooNew, open_store
from umecache.stores.convert import convert
from umecache.stores.manifest import FORMAT_VERSION
from umecache.stores.verify import verify

VERSIONS = Path(__file__).with_name("versions")


class Spiky(Toy):
    """One token with a value far from the others, which int8 has to keep exactly."""

    def encode(self, content: int) -> NDArray[np.float32]:
        tokens_TD = super().encode(content)
        tokens_TD[0, 0] = 4000 if content == 1 else tokens_TD[0, 0]
        return tokens_TD


TOY = Toy.make(ids=7, distinct=5, dim=3)
NAMED = Spiky.make(ids=7, distinct=5, dim=3, strings=True)
CASES = {
    "zarr-float16": (TOY, {"format": "zarr", "dtype": "float16"}),
    "zarr-bfloat16": (TOY, {"format": "zarr", "dtype": "bfloat16"}),
    "zarr-int8-strings": (NAMED, {"format": "zarr", "dtype": "int8"}),
    "hdf5-float32": (TOY, {"format": "hdf5", "dtype": "float32"}),
    "hdf5-int8-strings": (NAMED, {"format": "hdf5", "dtype": "int8"}),
}
KEPT = [
    pytest.param(folder, *CASES[folder.name], id=f"{folder.parent.name}-{folder.name}")
    for folder in sorted(VERSIONS.glob("*/*"))
]


def make(folder: Path, name: str) -> Path:
    """The case `name` in today's format; the same bytes from every version of umecache that has this format."""
    toy, options = CASES[name]
    write(folder / name, toy, manifest={**FACTS, "umecache_version": "0"}, shard_records=3, **options)
    return folder / name


def test_every_version_has_its_stores() -> None:
    assert {folder.name for folder in VERSIONS.iterdir()} == {str(n + 1) for n in range(FORMAT_VERSION)}
    assert len(KEPT) == FORMAT_VERSION * len(CASES)


@pytest.mark.parametrize(("path", "toy", "options"), KEPT)
def test_it_opens_and_holds_what_it_held(path: Path, toy: Toy, options: dict[str, str]) -> None:
    assert verify(path).ok
    store = open_store(path)
    assert list(store.ids) == toy.ids
    assert (store.manifest["outlier_tokens"] > 0) == (options["dtype"] == "int8")
    assert sorted(store.failures, key=str) == sorted(toy.failed, key=str)
    limit = 0.04 if options["dtype"] == "int8" else 0  # half a step of int8 for values up to 8
    for position, name in enumerate(toy.ids):
        expected = toy.expected(position)
        if expected is not None:
            assert np.abs(np.asarray(store[name], np.float32) - expected).max() <= limit


@pytest.mark.parametrize(("path", "toy", "options"), KEPT)
def test_it_can_be_renewed(path: Path, toy: Toy, options: dict[str, str], tmp_path: Path) -> None:
    # The upgrade path: a copy in today's format, with the same values and the same fingerprint.
    convert(path, tmp_path / "new")
    old, new = open_store(path), open_store(tmp_path / "new")
    assert json.loads((tmp_path / "new/manifest.json").read_text())["format_version"] == FORMAT_VERSION
    assert new.fingerprint == old.fingerprint
    for name in toy.ids:
        if name not in old.failures:
            assert np.array_equal(new[name], old[name])


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("zarr")])
def test_the_format_has_not_changed_under_its_number(name: str, tmp_path: Path) -> None:
    # HDF5 files are left out: their bytes are libhdf5's, and follow its version.
    assert tree(make(tmp_path, name)) == tree(VERSIONS / str(FORMAT_VERSION) / name)


def newer(path: Path, file: str) -> Path:
    document = json.loads((path / file).read_text())
    (path / file).write_text(json.dumps(document | {"format_version": FORMAT_VERSION + 1}))
    return path


def test_a_newer_store_is_refused_and_never_called_damaged(tmp_path: Path) -> None:
    path = newer(make(tmp_path, "zarr-float16"), "manifest.json")
    before = tree(path)
    for touch in (open_store, verify, lambda p: convert(p, tmp_path / "c"), lambda p: begin(p, TOY, shard_records=3)):
        with pytest.raises(StoreTooNew, match="pip install --upgrade umecache"):
            touch(path)
    assert examine([tmp_path], {}, older=0) == []  # gc doesn't offer it for deletion
    assert tree(path) == before


def test_a_newer_store_that_is_not_finished_is_not_joined(tmp_path: Path) -> None:
    begin(tmp_path / "s", TOY)
    newer(tmp_path / "s", ".writing/plan.json")
    with pytest.raises(StoreTooNew, match="A newer umecache wrote it"):
        begin(tmp_path / "s", TOY)


def test_a_version_that_never_was_is_damage(tmp_path: Path) -> None:
    path = make(tmp_path, "zarr-float16")
    document = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(document | {"format_version": 0}))
    with pytest.raises(StoreDamaged, match="format_version"):
        open_store(path)


if __name__ == "__main__":
    for case in CASES:
        make(Path(sys.argv[1]), case)
