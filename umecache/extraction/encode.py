"""The encoding of one shard: read and decode ahead in threads, encode, write behind.

Shapes: B batch, T tokens (padded), D width.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from umecache.encoders.base import Encoder, Prepared
from umecache.errors import JobFailed, UnreadableInput
from umecache.extraction.config import Precision
from umecache.extraction.devices import autocast
from umecache.extraction.inputs import Inputs, by_length, content_digest

AHEAD = 3  # batches that are read and decoded before the encoder asks for them


class ShardSink(Protocol):
    """What is needed of a claimed shard of a store."""

    @property
    def records(self) -> Sequence[int]:
        """Positions to encode, in stored order."""

    def write(self, position: int, values_TD: np.ndarray[Any, Any]) -> None:
        """Store one record, [T, D]."""

    def fail(self, position: int, reason: str, file_sha256: str | None) -> None:
        """Record that an input could not be read."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An input that could not be read after all."""

    reason: str
    sha256: str | None


class ShardEncoder:
    """Runs one frozen encoder over the records of shards.

    Args:
        encoder: already on `device`.
        inputs: the input set; `prepared` holds what planning has prepared already (texts), by position.
        lengths: tokens of every record.
        batch_size: records; halved for good when the device's memory runs out.
    """

    def __init__(
        self,
        encoder: Encoder,
        inputs: Inputs,
        lengths: Sequence[int],
        *,
        prepared: Mapping[int, Prepared],
        device: torch.device,
        batch_size: int,
        precision: Precision,
        workers: int,
    ) -> None:
        self.encoder, self.inputs, self.lengths, self.prepared = encoder, inputs, lengths, prepared
        self.device, self.batch_size, self.precision = device, batch_size, precision
        self.limit = batch_size  # records that fit in memory at once, as far as is known
        self.readers = ThreadPoolExecutor(workers, thread_name_prefix="umecache-read")
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="umecache-write")

    def close(self) -> None:
        """Stop the threads; what they have not begun is dropped."""
        self.readers.shutdown(wait=True, cancel_futures=True)
        self.writer.shutdown(wait=True, cancel_futures=True)

    def encode(self, shard: ShardSink, told: Callable[[int], None]) -> None:
        """Encode every record of `shard` into it; `told(n)` hears of each batch done."""
        batches = by_length(shard.records, self.lengths, self.batch_size)
        behind: Future[None] | None = None
        for positions, loaded in self._read_ahead(batches):
            good = [(p, item) for p, item in zip(positions, loaded, strict=True) if not isinstance(item, Failed)]
            bad = [(p, item) for p, item in zip(positions, loaded, strict=True) if isinstance(item, Failed)]
            # The padding is that of the planned batch, whatever is missing from it.
            pad_to = max(self.lengths[position] for position in positions)
            hidden = self._encode_batch([item for _, item in good], pad_to) if good else []
            if behind is not None:
                behind.result()  # one batch behind at most, and its errors surface here
            behind = self.writer.submit(self._write, shard, [p for p, _ in good], hidden, bad)
            told(len(positions))
        if behind is not None:
            behind.result()

    def _read_ahead(self, batches: Sequence[list[int]]) -> Iterator[tuple[list[int], list[Prepared | Failed]]]:
        queue: deque[tuple[list[int], list[Future[Prepared | Failed]]]] = deque()
        for positions in batches:
            queue.append((positions, [self.readers.submit(self._load, position) for position in positions]))
            if len(queue) > AHEAD:
                yield self._arrived(queue.popleft())
        while queue:
            yield self._arrived(queue.popleft())

    @staticmethod
    def _arrived(
        entry: tuple[list[int], list[Future[Prepared | Failed]]],
    ) -> tuple[list[int], list[Prepared | Failed]]:
        positions, futures = entry
        return positions, [future.result() for future in futures]

    def _load(self, position: int) -> Prepared | Failed:
        if (ready := self.prepared.get(position)) is not None:
            return ready
        digest = None
        try:
            item = self.inputs.read(position)
            digest = content_digest(item)
            if digest != self.inputs.digests[position]:
                raise UnreadableInput("changed while the extraction was running")
            return self.encoder.prepare(item)
        except UnreadableInput as error:
            return Failed(str(error), digest)

    def _encode_batch(self, items: list[Prepared], pad_to: int) -> list[Tensor]:
        """Hidden states in parts [B', T, D] on the CPU, split only when memory runs out; padding stays the same."""
        parts: list[Tensor] = []
        start = 0
        while start < len(items):
            chunk = items[start : start + self.limit]
            try:
                batch = {
                    name: tensor.to(self.device, non_blocking=True)
                    for name, tensor in self.encoder.collate(chunk, pad_to=pad_to).items()
                }
                with torch.inference_mode(), autocast(self.device, self.precision):
                    hidden_BTD = self.encoder.encode(batch)
                parts.append(hidden_BTD.float().cpu())
            except torch.OutOfMemoryError as error:
                if len(chunk) == 1:
                    raise JobFailed(
                        f"One record of {pad_to} tokens does not fit in the memory of {self.device}.",
                        next="a smaller --image-size, --precision bfloat16, or --devices cpu",
                    ) from error
                self.limit = max(1, len(chunk) // 2)
                torch.cuda.empty_cache()
                continue
            start += len(chunk)
        return parts

    def _write(
        self, shard: ShardSink, positions: list[int], hidden: list[Tensor], bad: list[tuple[int, Failed]]
    ) -> None:
        rows = (row_TD for part_BTD in hidden for row_TD in part_BTD.numpy())
        for position, row_TD in zip(positions, rows, strict=True):
            record_TD = row_TD[: self.lengths[position]]
            if not np.isfinite(record_TD).all():
                raise JobFailed(
                    f"The encoder gave values that are not finite for input {self.inputs.ids[position]}.",
                    why=f"It ran in {self.precision}." if self.precision != "float32" else "Its weights may be broken.",
                    next="--precision float32" if self.precision != "float32" else "check the checkpoint",
                )
            shard.write(position, record_TD)
        for position, failed in bad:
            shard.fail(position, failed.reason, failed.sha256)
