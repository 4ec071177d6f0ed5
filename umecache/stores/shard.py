"""One claimed shard: records go in by position, the whole is committed or nothing is.

    with shard:                                   # a ShardWriter from Writer.claim()
        for position in shard.records:
            shard.write(position, values_TD)

Letters: T tokens of one record, D width.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.stores.claims import Claim, Claims
from umecache.stores.commit import Work, is_sealed, telling
from umecache.stores.dtypes import Stored, encode
from umecache.stores.errors import StoreError, StoreWriteFailed
from umecache.stores.files import share
from umecache.stores.formats import Format, ShardShape
from umecache.stores.plan import Plan
from umecache.stores.receipts import Failure, Receipt, crc32c


@dataclass(frozen=True, slots=True)
class Job:
    """What writing one store needs to know; shared by the writer, its shards and the seal."""

    path: Path
    plan: Plan
    format: Format
    dtype: str
    compression: str | None
    work: Work
    claims: Claims

    @property
    def complete(self) -> bool:
        """Whether the store is sealed."""
        return is_sealed(self.path)

    def shard_ids(self, k: int) -> list[Any]:
        """The first id of each record of shard k."""
        ids, positions = self.plan.ids, self.plan.shard(k)
        return [ids[i] for i in positions] if isinstance(ids, list) else ids[positions].tolist()

    def receipt(self, k: int) -> Receipt | None:
        """Shard k's receipt if it is valid."""
        return self.work.receipt(k, self.shard_ids(k), self.format.shard_files(k, self.dtype))

    def left(self, among: Sequence[int]) -> list[int]:
        """Those shards that have no valid receipt yet."""
        signed = set(self.work.signed())
        return [k for k in among if k not in signed or self.receipt(k) is None]

    def safe(self) -> Iterator[str]:
        """What to tell somebody whose disk is full."""
        done = self.plan.shards - len(self.left(range(self.plan.shards)))
        yield f"{done} of {self.plan.shards} shards are finished and safe; nothing partial remains."


class ShardWriter:
    """One claimed shard, used as a context manager; see the module.

    Attributes:
        index: k.
        records: positions (into ids) of the records to be written or failed, in stored order.
    """

    def __init__(self, job: Job, k: int, claim: Claim) -> None:
        self.index = k
        self.records: list[int] = job.plan.shard(k).tolist()
        self._job, self._claim = job, claim
        self._order = {position: i for i, position in enumerate(self.records)}
        self._crc: list[str | None] = [None] * len(self.records)
        self._failures: dict[int, Failure] = {}
        self._outliers = 0
        self._folder = job.work.tmp / f"{k:06d}-{claim.nonce}"
        self._open = self._closed = False

    def __enter__(self) -> ShardWriter:
        job, plan = self._job, self._job.plan
        if self._closed:
            raise StoreError(f"Shard {self.index} was given back already.")
        with telling(job.path, self._name(), job.safe()):
            for left in job.work.tmp.glob(f"{self.index:06d}-*"):  # of an owner that is gone
                shutil.rmtree(left, ignore_errors=True)
            self._folder.mkdir()
            share(self._folder)  # whoever takes over clears it away
            shape = ShardShape(
                k=self.index,
                rows=int(plan.used[self.index]),
                shard_rows=plan.shard_rows,
                chunk_rows=plan.chunk_rows,
                dim=plan.dim,
                dtype=job.dtype,
                compression=job.compression,
            )
            self._sink = job.format.sink(self._folder, shape)
        self._open = True
        return self

    def _name(self) -> str:
        return f"shard {self.index + 1} of {self._job.plan.shards}"

    def write(self, position: int, values_TD: NDArray[Any]) -> None:
        """Place one record.

        Args:
            position: one of `records`.
            values_TD: float16 or float32 [T, D], T as planned.

        Raises:
            StoreWriteFailed: the disk is full, or the dtype can't hold a value.
            StoreError: the shape or the position is not the planned one.
        """
        if values_TD.dtype not in (np.float16, np.float32):
            raise StoreError(f"Records are float16 or float32, not {values_TD.dtype}.")
        name = self._job.plan.ids[position]
        self._check(position, values_TD.shape)
        self.write_stored(position, encode(self._job.dtype, values_TD, who=f"id {name!s}"))

    def write_stored(self, position: int, stored: Stored) -> None:
        """Place values that are encoded already, as `convert` does."""
        i = self._check(position, stored.tokens.shape)
        checksum = crc32c(stored)
        if self._crc[i] is not None:  # the padding of a distributed sampler repeats records: harmless if they agree
            if self._crc[i] != checksum:
                raise StoreError(f"Two different records were written for id {self._job.plan.ids[position]!s}.")
            return
        plan = self._job.plan
        with telling(self._job.path, self._name(), self._job.safe()):
            self._sink.put(int(plan.start[position]) - self.index * plan.shard_rows, stored)
        self._crc[i] = checksum
        self._outliers += 0 if stored.exact_rows is None else len(stored.exact_rows)

    def fail(self, position: int, reason: str, file_sha256: str | None = None) -> None:
        """Record that an input can't be read: its place stays unwritten, its length becomes 0."""
        i = self._position(position)
        if self._crc[i] is not None:
            raise StoreError(f"The record of id {self._job.plan.ids[position]!s} was written; it can't fail now.")
        self._failures[i] = Failure(i, reason, file_sha256)

    def _check(self, position: int, shape: tuple[int, ...]) -> int:
        i = self._position(position)
        plan = self._job.plan
        if i in self._failures:
            raise StoreError(f"The record of id {plan.ids[position]!s} failed; it can't be written now.")
        expected = (int(plan.length[position]), plan.dim)
        if shape != expected:
            raise StoreError(f"The record of id {plan.ids[position]!s} has shape {shape}; planned is {expected}.")
        return i

    def _position(self, position: int) -> int:
        if not self._open:
            raise StoreError(f"Shard {self.index} is not open: use `with shard:`.")
        i = self._order.get(position)
        if i is None:
            raise StoreError(f"Position {position} is not one of shard {self.index}'s records.")
        return i

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            self.discard()

    def _commit(self) -> None:
        job, plan = self._job, self._job.plan
        undone = [p for p, i in self._order.items() if self._crc[i] is None and i not in self._failures]
        if undone:
            raise StoreError(f"Shard {self.index} lacks {len(undone)} records, the first at position {undone[0]}.")
        receipt = Receipt(
            shard=self.index,
            start=self.index * plan.shard_rows,
            rows=int(plan.used[self.index]),
            ids=tuple(job.shard_ids(self.index)),
            tokens=tuple(plan.length[self.records].tolist()),
            crc32c=tuple(self._crc),
            outliers=self._outliers,
            failures=tuple(self._failures[i] for i in sorted(self._failures)),
            files=(),
        )
        try:
            with telling(job.path, self._name(), job.safe()):
                files = self._sink.finish()
                if job.claims.mine(self._claim):
                    job.work.commit(files, receipt)
                # Else this process was thought dead and another one does the shard: it writes the same bytes.
        except StoreWriteFailed:
            if not self._folder.exists() and (job.complete or job.receipt(self.index) is not None):
                return  # likewise, and the other process is done already
            raise

    def discard(self) -> None:
        """Drop what was not committed and give the claim back; harmless when done already."""
        if self._closed:
            return
        self._closed = True
        if self._open:
            self._open = False
            self._sink.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._job.claims.release(self._claim)
