"""Batches made ahead of the encoder: inputs read and prepared in threads, stacked and pinned in another.

    ahead = ReadAhead(encoder, inputs, lengths, prepared=prepared, transfer=transfer, workers=4)
    future = ahead.start(positions)      # later: future.result() is a Batch
    ahead.room                           # batches that may be under way at once, by the memory they take

Shapes: B batch, T tokens (padded).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from torch import Tensor

from umecache.encoders.base import Encoder, Prepared
from umecache.errors import UnreadableInput
from umecache.extraction.inputs import Inputs, content_digest
from umecache.extraction.transfer import Transfer

AHEAD = 4  # batches that are made before the encoder asks for them,
AHEAD_BYTES = 256 << 20  # as long as they take no more memory than this; one is always allowed


@dataclass(frozen=True, slots=True)
class Failed:
    """An input that could not be read after all."""

    reason: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What the encoder is fed.

    Attributes:
        positions: of the records in `tensors`, row by row.
        tensors: collated, on the CPU (pinned where the device can use that).
        failed: position -> why it is not among them.
        pad_to: T, of the planned batch, whatever is missing from it.
    """

    positions: Sequence[int]
    tensors: Mapping[str, Tensor]
    failed: Mapping[int, Failed]
    pad_to: int


class ReadAhead:
    """Makes batches in the background, in the order in which they are started.

    Args:
        inputs: the input set; `prepared` holds what planning has prepared already (texts), by position.
        lengths: tokens of every record.
        workers: threads that read and decode.
    """

    def __init__(
        self,
        encoder: Encoder,
        inputs: Inputs,
        lengths: Sequence[int],
        *,
        prepared: Mapping[int, Prepared],
        transfer: Transfer,
        workers: int,
    ) -> None:
        self._encoder, self._inputs, self._lengths = encoder, inputs, lengths
        self._prepared, self._transfer = prepared, transfer
        self._readers = ThreadPoolExecutor(workers, thread_name_prefix="umecache-read")
        # A thread of its own: it waits for readers, and readers never wait for it.
        self._stacker = ThreadPoolExecutor(1, thread_name_prefix="umecache-stack")
        self.room = 1  # until the size of a batch is known

    def start(self, positions: Sequence[int]) -> Future[Batch]:
        """Begin to make one batch."""
        items = [
            self._prepared[position] if position in self._prepared else self._readers.submit(self._load, position)
            for position in positions
        ]
        return self._stacker.submit(self._stack, positions, items)

    def close(self) -> None:
        """Stop the threads; what they have not begun is dropped."""
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._stacker.shutdown(wait=True, cancel_futures=True)

    def _load(self, position: int) -> Prepared | Failed:
        digest = None
        try:
            item = self._inputs.read(position)
            digest = content_digest(item)
            if self._inputs.digests[position] not in ("", digest):
                raise UnreadableInput("changed while the extraction was running")
            return self._encoder.prepare(item)
        except UnreadableInput as error:
            return Failed(str(error), digest)

    def _stack(self, positions: Sequence[int], items: Sequence[Prepared | Future[Prepared | Failed]]) -> Batch:
        good: dict[int, Prepared] = {}
        failed: dict[int, Failed] = {}
        for position, item in zip(positions, items, strict=True):
            found = item.result() if isinstance(item, Future) else item
            if isinstance(found, Failed):
                failed[position] = found
            else:
                good[position] = found
        pad_to = max(self._lengths[position] for position in positions)
        tensors: Mapping[str, Tensor] = {}
        if good:
            tensors = self._transfer.pin(self._encoder.collate(list(good.values()), pad_to=pad_to))
            size = sum(tensor.nbytes for tensor in tensors.values()) + sum(item.nbytes for item in good.values())
            self.room = max(1, min(AHEAD, AHEAD_BYTES // max(size, 1)))
        return Batch(list(good), tensors, failed, pad_to)
