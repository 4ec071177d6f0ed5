"""Where one modality's features come from: the device's memory, pinned RAM, or the store, read once per image.

    source = InMemory(store, ids, keep=device, device=device)       # read once; batches are selected from it
    source = FromStore(store, ids, device=device, window=2048)      # the last 2,048 records are kept
    tokens_BTD, mask_BT = source.gather(index_B)

Shapes: B batch, T tokens padded to the batch's longest record, D width, N tokens of all records, M records read.

Values are kept, and travel to a GPU from pinned buffers, as they are stored (half a float32 for float16 and bfloat16, a
quarter for int8), and become float32 there (`decode.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from umecache.stores import Store
from umecache.stores.dtypes import StoredBatch, row_bytes, stored_dtype
from umecache.training.decode import Values, as_stored, decode, to_device
from umecache.training.targets import Index

FIRST_READ = 256  # records at a time when a store is read into memory
STAGES = 4  # pinned buffers in turn: more than batches are gathered ahead
_TORCH = {"float16": torch.float16, "float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


class Source(Protocol):
    """Features of some questions, by position."""

    bytes_read: int

    def gather(self, index_B: Index) -> tuple[Tensor, Tensor]:
        """Tokens [B, T, D] float32, padding zero, and mask [B, T], on the device."""


class InMemory:
    """All distinct records of some ids in one tensor, read once.

    Args:
        keep: where that tensor lies: the device itself, or the CPU (pinned, where the device is a GPU).
    """

    def __init__(self, store: Store, ids: Index, *, keep: torch.device, device: torch.device) -> None:
        rows, self._record_of = distinct(store, ids)
        lengths = store.lengths[rows].astype(np.int64)
        ends = np.cumsum(lengths)
        self._lengths = torch.from_numpy(lengths)
        self._starts = torch.from_numpy(ends - lengths)
        self._zero_row = int(ends[-1]) if len(ends) else 0  # padding points at a row of zeros behind the last record
        size, pinned = self._zero_row + 1, keep.type == "cpu" and device.type == "cuda"
        kept_ND = torch.zeros(size, store.dim, dtype=_TORCH[store.dtype], pin_memory=pinned)
        scale_N = torch.zeros(size) if store.dtype == "int8" else None
        exact_at, exact = [], []  # rows that int8 keeps exactly, and their values
        for first in range(0, len(rows), FIRST_READ):
            part = slice(first, first + FIRST_READ)
            batch = store.stored_rows(rows[part])
            span = slice(int(self._starts[first]), int(ends[part][-1]))
            kept_ND[span] = as_stored(batch.tokens[batch.mask])
            if scale_N is not None and batch.scale is not None:
                scale_N[span] = torch.from_numpy(batch.scale[batch.mask])
            exact_at.append(self._starts[part].numpy()[batch.exact_at[:, 0]] + batch.exact_at[:, 1])
            exact.append(batch.exact)
        self._tokens_ND = kept_ND.to(keep)
        self._scale_N = None if scale_N is None else scale_N.to(keep)
        self._exact_KD = torch.from_numpy(np.concatenate([np.empty((0, store.dim), np.float32), *exact])).to(keep)
        self._exact_of = torch.full((size,), -1)  # row -> its place in `exact`
        at = np.concatenate([np.empty(0, np.int64), *exact_at])
        self._exact_of[torch.from_numpy(at)] = torch.arange(len(at))
        self._device, self._staging = device, Staging(device)
        self.bytes_read = self._zero_row * row_bytes(store.dtype, store.dim)

    def gather(self, index_B: Index) -> tuple[Tensor, Tensor]:
        record_B = torch.from_numpy(self._record_of[index_B])
        lengths_B = self._lengths[record_B]
        position_T = torch.arange(max(int(lengths_B.max()) if len(lengths_B) else 0, 1))
        mask_BT = position_T < lengths_B[:, None]
        row_BT = torch.where(mask_BT, self._starts[record_B][:, None] + position_T, self._zero_row)
        place = row_BT.to(self._tokens_ND.device)
        if self._tokens_ND.device == self._device:
            tokens_BTD = self._tokens_ND[place]
        else:
            stage_BTD = self._staging.room((*row_BT.shape, self._tokens_ND.shape[1]), self._tokens_ND.dtype)
            torch.index_select(self._tokens_ND, 0, row_BT.flatten(), out=stage_BTD.view(-1, stage_BTD.shape[2]))
            tokens_BTD = self._staging.send(stage_BTD)
        scale_BT = None if self._scale_N is None else self._scale_N[place].to(self._device)
        at = exact = None
        if len(self._exact_KD):  # found on the CPU: a GPU would have to be waited for
            at = (self._exact_of[row_BT] >= 0).nonzero()
            exact = self._exact_KD[self._exact_of[row_BT[at[:, 0], at[:, 1]]].to(place.device)].to(self._device)
            at = at.to(self._device)
        return decode(Values(tokens_BTD, mask_BT.to(self._device), scale_BT, at, exact))


class FromStore:
    """Gathers from the store's memory map.

    Args:
        window: records that are kept after they were read, the oldest making way: with an order that asks all
            questions about an image soon after each other, every image is read once. 0: none is kept, each batch is
            read anew.
    """

    def __init__(self, store: Store, ids: Index, *, device: torch.device, window: int = 0) -> None:
        self._store, self._device = store, device
        first, record_of = distinct(store, ids)
        self._rows, self._record_of = first, record_of
        self.bytes_read = 0
        self._token_bytes = row_bytes(store.dtype, store.dim)
        self._staging = Staging(device)
        self._longest = max(int(store.lengths[first].max(initial=0)), 1)
        self._slots = min(window, len(first))
        self._kept_MTD = np.empty((self._slots, self._longest, store.dim), stored_dtype(store.dtype))
        self._scale_MT = np.zeros((self._slots, self._longest), np.float32) if store.dtype == "int8" else None
        self._exact: dict[int, tuple[Index, np.ndarray[Any, Any]]] = {}  # slot -> tokens that int8 keeps exactly
        self._slot_of = np.full(len(first), -1, np.int64)  # record -> where it is kept
        self._holds = np.full(self._slots, -1, np.int64)  # slot -> record
        self._next = 0

    def gather(self, index_B: Index) -> tuple[Tensor, Tensor]:
        record_B = self._record_of[index_B]
        wanted = np.unique(record_B)
        if len(wanted) > self._slots:
            batch = self._store.stored_rows(self._rows[record_B])
            self.bytes_read += int(batch.mask.sum()) * self._token_bytes
        else:
            self._fetch(wanted[self._slot_of[wanted] < 0], wanted)
            batch = self._kept(record_B)
        if self._device.type == "cpu":
            return decode(to_device(batch, self._device))
        stage_BTD = self._staging.room(batch.tokens.shape, _TORCH[self._store.dtype])
        stage_BTD.copy_(as_stored(batch.tokens))
        small = to_device(replace(batch, tokens=batch.tokens[:0]), self._device)
        return decode(replace(small, tokens=self._staging.send(stage_BTD)))

    def _kept(self, record_B: Index) -> StoredBatch:
        """A batch of records that are all kept."""
        slot_B = self._slot_of[record_B]
        lengths_B = self._store.lengths[self._rows[record_B]]
        longest = max(int(lengths_B.max(initial=0)), 1)
        exact = [(b, *self._exact[slot]) for b, slot in enumerate(slot_B.tolist()) if slot in self._exact]
        at = [np.stack([np.full(len(rows), b), rows], axis=1) for b, rows, _ in exact]
        return StoredBatch(
            self._kept_MTD[slot_B, :longest],
            np.arange(longest) < lengths_B[:, None],
            None if self._scale_MT is None else self._scale_MT[slot_B, :longest],
            np.concatenate([np.empty((0, 2), np.int64), *at]),
            np.concatenate([np.empty((0, self._store.dim), np.float32), *(values for _, _, values in exact)]),
        )

    def _fetch(self, missing: Index, wanted: Index) -> None:
        """Read records into the slots of the oldest ones; those that are wanted now stay."""
        for first in range(0, len(missing), FIRST_READ):
            records = missing[first : first + FIRST_READ]
            batch = self._store.stored_rows(self._rows[records])
            longest = batch.tokens.shape[1]
            self.bytes_read += int(batch.mask.sum()) * self._token_bytes
            for row, record in enumerate(records.tolist()):
                slot = self._free_slot(wanted)
                self._kept_MTD[slot, :longest] = batch.tokens[row]
                self._kept_MTD[slot, longest:] = 0
                if self._scale_MT is not None and batch.scale is not None:
                    self._scale_MT[slot, :longest] = batch.scale[row]
                self._exact.pop(slot, None)
                if (mine := batch.exact_at[:, 0] == row).any():
                    self._exact[slot] = batch.exact_at[mine, 1], batch.exact[mine]
                self._holds[slot], self._slot_of[record] = record, slot

    def _free_slot(self, wanted: Index) -> int:
        while True:
            slot = self._next
            self._next = (slot + 1) % self._slots
            before = int(self._holds[slot])
            if before >= 0:
                place = int(np.searchsorted(wanted, before))
                if place < len(wanted) and wanted[place] == before:
                    continue  # this batch needs it
                self._slot_of[before] = -1
            return slot


class Staging:
    """Buffers that batches are gathered into on their way to the device: pinned, in turn, on a GPU; on the CPU one, and
    what is sent is a copy.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda = device.type == "cuda"
        self._buffers: list[Tensor | None] = [None] * (STAGES if self._cuda else 1)
        self._copied: list[Any] = [None] * len(self._buffers)  # CUDA events
        self._turn = 0

    def room(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A buffer of this shape; its values are arbitrary."""
        self._turn = (self._turn + 1) % len(self._buffers)
        if self._copied[self._turn] is not None:
            self._copied[self._turn].synchronize()
        size = int(np.prod(shape))
        buffer = self._buffers[self._turn]
        if buffer is None or buffer.numel() < size or buffer.dtype != dtype:
            buffer = self._buffers[self._turn] = torch.empty(max(size, 1), dtype=dtype, pin_memory=self._cuda)
        return buffer[:size].view(shape)

    def send(self, stage: Tensor) -> Tensor:
        """The same values on the device."""
        if not self._cuda:
            return stage.to(self._device, copy=True)
        sent = stage.to(self._device, non_blocking=True)
        self._copied[self._turn] = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._copied[self._turn].record()
        return sent


def distinct(store: Store, ids: Index) -> tuple[Index, Index]:
    """Rows of the distinct records behind some ids, and which of them each id has: equal inputs share one."""
    rows = store.rows(ids)
    place = np.where(store.lengths[rows] > 0, store.starts[rows], -1)  # all failed inputs are one empty record
    _, first, record_of = np.unique(place, return_index=True, return_inverse=True)
    return rows[first], record_of.astype(np.int64)


def bytes_needed(store: Store, ids: Index) -> int:
    """What all features of some ids take in memory, equal inputs counted once."""
    lengths = store.lengths[distinct(store, ids)[0]]
    return int(lengths.sum()) * row_bytes(store.dtype, store.dim)
