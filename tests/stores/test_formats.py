"""The list of formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stores.toy import Toy, write
from umecache.stores import StoreError, StoreMissing
from umecache.stores.formats import FORMATS, find_format, load_format


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_found_by_its_content(tmp_path: Path, name: str) -> None:
    assert load_format(name).name == name
    write(tmp_path / "any.name", Toy.make(), format=name)
    assert find_format(tmp_path / "any.name").name == name


def test_unknown_names_and_places(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"Unknown store format 'tar'.*zarr, hdf5"):
        load_format("tar")
    (tmp_path / "index.h5").write_bytes(b"not hdf5")
    with pytest.raises(StoreMissing, match="Neither"):
        find_format(tmp_path)
    with pytest.raises(StoreMissing, match="does not exist"):
        find_format(tmp_path / "none")
