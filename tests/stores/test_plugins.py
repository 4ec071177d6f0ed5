"""Installed packages that offer encoders, fusion methods and store formats; broken ones break only themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.stores.packages import install
from tests.stores.toy import Toy, write
from umecache.stores import StoreError, open_store
from umecache.stores.formats import find_format, known_formats, load_format
from umecache.stores.plugins import GROUPS, PluginBroken, load, offered

FORMAT = """
from umecache.stores.zarr_format import ZarrFormat

class Mine(ZarrFormat):
    name = "mine"

class Misnamed(ZarrFormat):
    pass

class Half:
    name = "half"
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def test_a_package_offers_a_store_format(site: Path, tmp_path: Path) -> None:
    offers = {name: f"mine_format:{name.title()}" for name in ("mine", "misnamed", "half")}
    install(site, "mine_format", FORMAT, {"umecache.store_formats": offers})
    assert known_formats()[:2] == ("zarr", "hdf5") and "mine" in known_formats()
    toy = Toy.make()
    write(tmp_path / "s", toy, format="mine")
    store = open_store(tmp_path / "s")
    assert (store.format, store.manifest["format"]) == ("mine", "mine")
    write(tmp_path / "z", toy, format="zarr")
    other = open_store(tmp_path / "z")
    assert store.fingerprint == other.fingerprint, "a format is no part of what a store is"
    for name in other.ids:
        np.testing.assert_array_equal(store[name], other[name])
    with pytest.raises(StoreError, match="whose `name` is 'misnamed'"):
        load_format("misnamed")
    with pytest.raises(StoreError, match="lacks detect"):
        load_format("half")


def test_a_store_whose_format_s_package_is_gone(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "gone_format", FORMAT, {"umecache.store_formats": {"mine": "gone_format:Mine"}})
    write(tmp_path / "s", Toy.make(), format="mine")
    monkeypatch.setattr("sys.path", [folder for folder in __import__("sys").path if folder != str(site)])
    with pytest.raises(StoreError, match=r"format 'mine', which nothing here can read.*install the package"):
        open_store(tmp_path / "s")


@pytest.mark.parametrize("group", GROUPS)
def test_a_package_that_fails_to_import_is_named_and_breaks_only_itself(group: str, site: Path, tmp_path: Path) -> None:
    from umecache.encoders.registry import resolve
    from umecache.fusion.registry import load_fusion

    install(site, "broken_one", "raise RuntimeError('no licence')", {group: {"broken": "broken_one:It"}})
    use = {"umecache.encoders": resolve, "umecache.fusions": load_fusion, "umecache.store_formats": load_format}[group]
    with pytest.raises(PluginBroken) as caught:
        use("broken")
    assert GROUPS[group] in caught.value.what and "'broken-one'" in caught.value.what
    assert "RuntimeError: no licence" in caught.value.why
    # All others go on, also where every format is asked whether it knows a folder.
    assert resolve("bert").name == "bert"
    assert load_fusion("concat").__name__ == "Concat"
    write(tmp_path / "s", Toy.make())
    assert find_format(tmp_path / "s").name == "zarr"


def test_a_broken_format_is_mentioned_where_nothing_is_found(site: Path, tmp_path: Path) -> None:
    install(site, "broken_two", "import nowhere_at_all", {"umecache.store_formats": {"two": "broken_two:It"}})
    with pytest.raises(StoreError, match=r"No feature store at .*'broken-two' can't be loaded"):
        find_format(tmp_path)


def test_a_package_offers_an_encoder_and_a_method(site: Path) -> None:
    from umecache.encoders.base import EncoderOptions
    from umecache.encoders.registry import load_encoder
    from umecache.fusion.registry import build_fusion

    source = """
from umecache.encoders.models import MODELS
from umecache.fusion.concat import Concat

ENTRY = MODELS["sample-text"]

class Mine(Concat):
    "A method of one's own."
"""
    offers = {"umecache.encoders": {"mine": "both:ENTRY"}, "umecache.fusions": {"mine": "both:Mine"}}
    install(site, "both", source, offers)
    assert load_encoder("mine", EncoderOptions()).modality == "text"
    assert type(build_fusion("mine", {"text": 4, "image": 6}, width=8)).__name__ == "Mine"


def test_offers_are_listed_without_importing(site: Path) -> None:
    install(site, "never_imported", "raise SystemExit", {"umecache.fusions": {"never": "never_imported:It"}})
    assert offered("umecache.fusions")["never"].value == "never_imported:It"
    with pytest.raises(SystemExit):  # what wants to end the program does, and is no plug-in's error
        load(offered("umecache.fusions")["never"])
