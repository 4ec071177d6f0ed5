"""Errors of the stores: one line each, picklable, with the right exit status."""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler

import pytest

from umecache.stores import errors
from umecache.stores.errors import StoreDamaged, StoreError, StoreMissing, StoreWriteFailed, UmecacheError, UnknownId


@pytest.mark.parametrize("kind", [StoreError, StoreMissing, StoreDamaged, StoreWriteFailed, UnknownId])
def test_words_json_and_pickle(kind: type[UmecacheError]) -> None:
    error = kind("A is broken.", why="B did it.", next="umecache store repair A")
    assert str(error) == "A is broken. B did it. umecache store repair A"
    assert error.as_json() == {"what": "A is broken.", "why": "B did it.", "next": "umecache store repair A"}
    again = ForkingPickler.loads(bytes(ForkingPickler.dumps(error)))
    assert type(again) is kind
    assert again.as_json() == error.as_json()


def test_exit_status() -> None:
    failed = {name for name, kind in vars(errors).items() if isinstance(kind, type) and kind.exit_status == 1}
    assert failed == {"StoreDamaged", "StoreWriteFailed"}


def test_an_unknown_id_is_a_key_error() -> None:
    assert issubclass(UnknownId, KeyError)
    assert issubclass(UnknownId, StoreError)
