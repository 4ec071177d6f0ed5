"""Shards that come when they are first needed, and may be let go at any time."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tests.stores.test_independent_reader import Spiky
from tests.stores.toy import Toy, write
from umecache.stores import Store, StoreDamaged, open_store
from umecache.stores import supply as module

TOY = Toy.make(ids=40, distinct=32)
LAYOUTS = [
    {},
    {"format": "hdf5"},
    {"dtype": "int8"},
    {"dtype": "int8", "format": "hdf5"},
    {"compression": "zstd"},
    {"dtype": "int8", "format": "hdf5", "compression": "gzip"},
]


class Copying:
    """Brings shards from a whole store, keeps the last `room` of them, and notes what it was asked."""

    def __init__(self, whole: Path, here: Path, room: int = 2) -> None:
        self.whole, self.here, self.room = whole, here, room
        shards = open_store(whole).manifest["layout"]["shards"]
        self.files = [[part["path"] for part in shard["files"]] for shard in shards]
        shutil.copytree(whole, here)
        for k in range(len(shards)):
            self.drop(k)
        self.asked: list[int] = []
        self.used: set[int] = set()
        self.deaf = False

    def drop(self, k: int) -> None:
        for name in self.files[k]:
            (self.here / name).unlink()

    def need(self, shards: Iterable[int]) -> None:
        for k in shards:
            if not self.holds(k) and not self.deaf:
                self.asked.append(k)
                here = [old for old in range(len(self.files)) if self.holds(old)]
                for old in here[: max(0, len(here) - self.room + 1)]:
                    self.drop(old)
                for name in self.files[k]:
                    shutil.copyfile(self.whole / name, self.here / name)

    def holds(self, k: int) -> bool:
        return all((self.here / name).exists() for name in self.files[k])

    def use(self, shards: Iterable[int]) -> None:
        self.used |= set(shards)


@pytest.fixture(params=LAYOUTS, ids=str)
def supply(request: pytest.FixtureRequest, tmp_path: Path) -> Copying:
    toy = (
        TOY
        if "dtype" not in request.param
        else Spiky(list(range(30)), list(range(30)), dict.fromkeys(range(30), 3), 300)
    )
    facts = write(tmp_path / "whole", toy, **request.param)
    assert bool(facts["outlier_tokens"]) == ("dtype" in request.param)
    return Copying(tmp_path / "whole", tmp_path / "here")


def test_reads_what_the_whole_store_holds(supply: Copying) -> None:
    whole, store = open_store(supply.whole), Store(supply.here, supply=supply)
    assert not supply.asked  # opening needs no shard
    for name in whole.ids:
        assert np.array_equal(store[name], whole[name])
        assert np.array_equal(store.raw(name), whole.raw(name))
    order = np.random.default_rng(0).permutation(len(whole))
    for part in np.array_split(order, 6):
        names = whole.ids_at(part.tolist())
        for ours, theirs in zip(store.batch(names), whole.batch(names), strict=True):
            assert np.array_equal(ours, theirs)
        ours, theirs = store.stored_rows(part), whole.stored_rows(part)
        assert np.array_equal(ours.tokens, theirs.tokens)
        assert np.array_equal(ours.exact, theirs.exact)
    assert sum(supply.holds(k) for k in range(len(supply.files))) <= supply.room
    assert supply.used == set(range(len(supply.files)))


def test_only_what_is_asked_for_comes(supply: Copying) -> None:
    store = Store(supply.here, supply=supply)
    store.batch(store.ids_at([0, 1]))
    assert supply.asked == [0]
    store.batch(store.ids_at([0, 1]))
    assert supply.asked == [0]


def test_a_map_of_what_was_let_go_is_let_go_too(tmp_path: Path) -> None:
    write(tmp_path / "whole", TOY)
    supply = Copying(tmp_path / "whole", tmp_path / "here", room=1)
    store = Store(tmp_path / "here", supply=supply)
    kept = store[store.ids[0]]
    copy = kept.copy()
    for name in store.ids:
        store[name]
    assert len(store._columns.tokens._views) == 1
    assert np.array_equal(kept, copy)  # a view outlives its file


def test_damage_is_no_reason_to_ask_again(tmp_path: Path) -> None:
    write(tmp_path / "whole", TOY)
    supply = Copying(tmp_path / "whole", tmp_path / "here")
    store = Store(tmp_path / "here", supply=supply)
    supply.need([0])
    (tmp_path / "here/tokens/c/0/0").write_bytes(b"short")
    with pytest.raises(StoreDamaged, match="cut short"):
        store[store.ids[0]]
    assert supply.asked == [0]


def test_what_never_comes_is_damage_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "whole", TOY)
    supply = Copying(tmp_path / "whole", tmp_path / "here")
    supply.deaf = True
    tried: list[int] = []
    load = module.supplied(supply, lambda k: (tried.append(k), open_store(tmp_path / "here"))[1])
    with pytest.raises(StoreDamaged):
        load(3)
    assert tried == [3] * module.TRIES
