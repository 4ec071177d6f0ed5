"""From shards to hidden states: read ahead in threads, encode, write and commit behind.

    machine = ShardEncoder([encoder], inputs, lengths, prepared={}, device=device, batch_size=16, ...)
    try:
        machine.encode(writer.offers(), told)
    finally:
        machine.close()

One batch follows the other across shards, so the encoder waits neither for a shard's first images nor for its commit.
What a batch holds and how far it is padded depends on its shard alone.

Shapes: B batch, T tokens (padded), D width.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from umecache.encoders.base import Encoder, Prepared
from umecache.errors import JobFailed
from umecache.extraction.ahead import Batch, ReadAhead
from umecache.extraction.behind import Behind
from umecache.extraction.config import Precision
from umecache.extraction.devices import autocast
from umecache.extraction.inputs import Inputs, by_length
from umecache.extraction.shares import Shares
from umecache.extraction.transfer import Part, Transfer, out_of_memory

BEHIND = 2  # batches that wait to be written
POLL = 0.5  # seconds between looks whether another process has given a shard back
FLOAT16_END = 65520.0  # from here on a number rounds to infinity in float16


class ShardSink(Protocol):
    """What is needed of a claimed shard of a store; as a context manager it commits, or leaves nothing behind."""

    @property
    def records(self) -> Sequence[int]:
        """Positions to encode, in stored order."""

    def write(self, position: int, values_TD: np.ndarray[Any, Any], /) -> None:
        """Store one record, [T, D]; where several layers are encoded, one after the other."""

    def fail(self, position: int, reason: str, file_sha256: str | None) -> None:
        """Record that an input could not be read."""

    def __enter__(self) -> ShardSink: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Work:
    """One batch on its way to the encoder."""

    shard: ShardSink
    records: int
    last: bool  # of its shard
    batch: Future[Batch]


@dataclass(frozen=True, slots=True)
class Launched:
    """One batch that the device works on, or has done."""

    work: Work
    batch: Batch
    parts: Sequence[Part]


class ShardEncoder:
    """Runs one frozen encoder over the records of shards.

    Args:
        views: the encoder, already on `device`; for several layers in one pass, its views (`Encoder.at`).
        inputs: the input set; `prepared` holds what planning has prepared already (texts), by position.
        lengths: tokens of every record.
        batch_size: records; what is encoded at once is halved for good when the device's memory runs out.
        dtype: of the store.

    Attributes:
        shares: where the time went.
    """

    def __init__(
        self,
        views: Sequence[Encoder],
        inputs: Inputs,
        lengths: Sequence[int],
        *,
        prepared: Mapping[int, Prepared],
        device: torch.device,
        batch_size: int,
        precision: Precision,
        dtype: str = "float32",
        workers: int = 1,
    ) -> None:
        self.views, self.inputs, self.lengths = tuple(views), inputs, lengths
        self.device, self.batch_size, self.precision = device, batch_size, precision
        # Half the bytes to copy where that is all the store keeps; the other dtypes are made of float32 by the store.
        self.dtype = torch.float16 if dtype == "float16" else torch.float32
        self.limit = batch_size  # records that fit in memory at once, as far as is known
        self.shares = Shares()
        self._transfer = Transfer(device)
        self._ahead = ReadAhead(views[0], inputs, lengths, prepared=prepared, transfer=self._transfer, workers=workers)
        self._behind = Behind(BEHIND, name="umecache-write")
        self._lag = 1 if self._transfer.cuda else 0  # so that a GPU always has the next batch before it
        self._open: list[ShardSink] = []

    def close(self) -> None:
        """Stop the threads: what is being read is dropped, what is encoded is written."""
        self._ahead.close()
        self._behind.close()

    def encode(self, shards: Iterable[ShardSink | None], told: Callable[[int], None]) -> None:
        """Encode every record of every shard that is offered, and commit each.

        Args:
            shards: None where none is free at the moment but some may become so (`Writer.offers`).
            told: hears the number of records of each batch encoded.
        """
        launched: deque[Launched] = deque()
        try:
            for work in self._works(shards, launched):
                with self.shares.of("read"):
                    batch = work.batch.result()
                with self.shares.of("encode"):
                    parts = self._encode_batch(batch)
                launched.append(Launched(work, batch, parts))
                while len(launched) > self._lag:
                    self._hand_over(launched)
                told(work.records)
            while launched:
                self._hand_over(launched)
            with self.shares.of("write"):
                self._behind.drain()
        except BaseException:
            self.close()
            for shard in self._open:
                with contextlib.suppress(Exception):  # the first error is the one to tell
                    shard.__exit__(*sys.exc_info())
            raise

    def _works(self, shards: Iterable[ShardSink | None], launched: deque[Launched]) -> Iterator[Work]:
        """Batches under way, so many ahead as there is room for."""
        source = self._batches(shards)
        queue: deque[Work] = deque()
        ended, asked = False, -math.inf
        while True:
            while not ended and len(queue) < self._ahead.room and time.monotonic() - asked > POLL:
                found = next(source, False)
                if found is False:
                    ended = True
                elif found is None:
                    asked = time.monotonic()
                else:
                    queue.append(found)  # type: ignore[arg-type]
            if queue:
                yield queue.popleft()
            elif ended:
                return
            else:
                # All that is left is held by others, or by us: finish what we hold, then look again.
                while launched:
                    self._hand_over(launched)
                with self.shares.of("write"):
                    self._behind.drain()
                time.sleep(max(0.0, asked + POLL - time.monotonic()))

    def _batches(self, shards: Iterable[ShardSink | None]) -> Iterator[Work | None]:
        for shard in shards:
            if shard is None:
                yield None
                continue
            self._open.append(shard)
            shard.__enter__()
            batches = by_length(shard.records, self.lengths, self.batch_size)
            for number, positions in enumerate(batches, 1):
                yield Work(shard, len(positions), number == len(batches), self._ahead.start(positions))

    def _encode_batch(self, batch: Batch) -> list[Part]:
        """Hidden states in parts, split only when memory runs out; padding stays the same."""
        parts: list[Part] = []
        start = 0
        while start < len(batch.positions):
            stop = min(start + self.limit, len(batch.positions))
            try:
                parts.append(self._forward({name: tensor[start:stop] for name, tensor in batch.tensors.items()}))
                start = stop
                continue
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                reason = str(error)
            # Outside the handler, whose traceback would keep the tensors of the failed attempt alive.
            if stop - start == 1:
                raise JobFailed(
                    f"One record of {batch.pad_to} tokens does not fit in the memory of {self.device}.",
                    why=reason.strip().split("\n")[0][:200],
                    next="a smaller --image-size, --precision bfloat16, or --devices cpu",
                )
            self.limit = max(1, (stop - start) // 2)
            if self._transfer.cuda:
                torch.cuda.empty_cache()
        return parts

    def _forward(self, chunk: Mapping[str, Tensor]) -> Part:
        with torch.inference_mode(), autocast(self.device, self.precision):
            batch, (first, *others) = self._transfer.to_device(chunk), self.views
            layers_BTD = first.encode_layers(batch, self.views) if others else [first.encode(batch)]
            return self._transfer.to_host(layers_BTD, self.dtype)

    def _hand_over(self, launched: deque[Launched]) -> None:
        """Wait for the oldest launched batch and give it to the writing thread."""
        done = launched.popleft()
        with self.shares.of("encode"):
            for part in done.parts:
                part.wait()
        with self.shares.of("write"):
            self._behind.put(lambda: self._write(done))

    def _write(self, done: Launched) -> None:
        """In the writing thread."""
        shard, batch = done.work.shard, done.batch
        records = (record for part in done.parts for record in zip(*part.values, *part.peaks, strict=True))
        for position, record in zip(batch.positions, records, strict=True):
            layers_TD, peaks_T = record[: len(self.views)], record[len(self.views) :]
            length = self.lengths[position]
            for peak_T in peaks_T:
                self._check(position, float(peak_T[:length].max()))
            shard.write(position, *(x_TD[:length].numpy() for x_TD in layers_TD))
        for position, failed in batch.failed.items():
            shard.fail(position, failed.reason, failed.sha256)
        if done.work.last:
            shard.__exit__(None, None, None)
            self._open.remove(shard)

    def _check(self, position: int, peak: float) -> None:
        """Refuse what no cache should keep.

        Raises:
            JobFailed: values that are not finite, or that float16 can't hold.
        """
        if not math.isfinite(peak):
            reduced = self.precision != "float32"
            raise JobFailed(
                f"The encoder gave values that are not finite for input {self.inputs.ids[position]}.",
                why=f"It ran in {self.precision}." if reduced else "Its weights may be broken.",
                next="--precision float32" if reduced else "check the checkpoint",
            )
        if self.dtype == torch.float16 and peak >= FLOAT16_END:
            raise JobFailed(
                f"The hidden states of input {self.inputs.ids[position]} reach {peak:.6g}, which float16 can't hold.",
                why="float16 ends at 65504; models trained in bfloat16 (T5 and its kin) go beyond it.",
                next="run the same command with --dtype bfloat16",
            )
