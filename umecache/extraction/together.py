"""Several layers of one encoder, a store each, written in one pass.

    for shard in offers([store_of_last, store_of_minus_4]):     # shard k of every store that lacks it
        with shard:
            shard.write(position, last_TD, minus_4_TD)

Each store is what it would be if its layer were extracted alone: same plan, same shards, its own receipts and claims.
So a store that is finished already, or one that another process completes meanwhile, is left out of the pass and
nothing else changes.

Shapes: T tokens of one record, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np

from umecache.extraction.encode import ShardSink
from umecache.stores import ShardWriter, Writer


class Bundle:
    """Shard k of several stores of one plan; None for a store that has it already."""

    def __init__(self, shards: Sequence[ShardWriter | None]) -> None:
        self._shards = shards
        self._held = [shard for shard in shards if shard is not None]
        self._stack = ExitStack()

    @property
    def records(self) -> Sequence[int]:
        """Positions to encode, in stored order: the same in every store."""
        return self._held[0].records

    def write(self, position: int, *values_TD: np.ndarray[Any, Any]) -> None:
        """Store one record in each store."""
        for shard, layer_TD in zip(self._shards, values_TD, strict=True):
            if shard is not None:
                shard.write(position, layer_TD)

    def fail(self, position: int, reason: str, file_sha256: str | None) -> None:
        """Record in each store that an input could not be read."""
        for shard in self._held:
            shard.fail(position, reason, file_sha256)

    def __enter__(self) -> Bundle:
        for shard in self._held:
            self._stack.enter_context(shard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Where one commit fails, the stack drops those that have not been committed yet.
        self._stack.__exit__(kind, error, trace)

    def discard(self) -> None:
        """Give all claims back."""
        for shard in self._held:
            shard.discard()


def offers(writers: Sequence[Writer]) -> Iterator[ShardSink | None]:
    """`Writer.offers` of several stores with one plan: a shard is offered where it is free in all that lack it."""
    if len(writers) == 1:
        yield from writers[0].offers()
        return
    # One order for all processes, whatever order the layers were named in.
    order = sorted(range(len(writers)), key=lambda i: str(writers[i].path))
    while left := sorted({k for writer in writers for k in writer.left()}):
        yield next((bundle for k in left if (bundle := _take(writers, order, k)) is not None), None)


def _take(writers: Sequence[Writer], order: Sequence[int], k: int) -> Bundle | None:
    """Shard k of every store that lacks it; None where somebody else holds one of them."""
    held: dict[int, ShardWriter | None] = {}
    for i in order:
        held[i] = writers[i].take(k)
        if held[i] is None and writers[i].left([k]):
            for shard in held.values():
                if shard is not None:
                    shard.discard()
            return None
    return Bundle([held[i] for i in range(len(writers))]) if any(held.values()) else None
