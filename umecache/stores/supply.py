"""Shards that come when they are first needed: what the reader of a store asks of whoever brings its files.

    store = Store(folder, supply=supply)     # the lists lie in `folder`; shards arrive there one by one, may go again

A store on this machine has no supply. One that is read from afar has (`umecache.sharing.reading`), which keeps only so
many shards: a shard that was let go is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from umecache.stores.errors import StoreDamaged

TRIES = 8  # others may let a shard go between its arrival and the moment it is mapped

T = TypeVar("T")


class Supply(Protocol):
    """Brings the files of shards into the folder of the store. May be called from several threads."""

    def need(self, shards: Iterable[int]) -> None:
        """Have these shards' files in place; if they are more than there is room for, as many of the first as there is.

        Raises:
            UmecacheError: they can't be had.
        """

    def holds(self, shard: int) -> bool:
        """Whether all files of a shard are in place now."""

    def use(self, shards: Iterable[int]) -> None:
        """Note that these are being read, so that others are let go first."""


def supplied(supply: Supply, load: Callable[[int], T]) -> Callable[[int], T]:
    """`load`, with the shard brought before."""

    def load_shard(k: int) -> T:
        for left in reversed(range(TRIES)):
            supply.need([k])
            try:
                return load(k)
            except StoreDamaged:
                if not left or supply.holds(k):  # its files are there: it is really damaged
                    raise
        raise AssertionError("unreachable")

    return load_shard
