"""Where one modality's features come from: the device's memory, pinned RAM, or the store, read once per image.

    source = InMemory(store, ids, keep=device, device=device)       # read once; batches are selected from it
    source = FromStore(store, ids, device=device, window=2048)      # the last 2,048 records are kept
    tokens_BTD, mask_BT = source.gather(index_B)

Shapes: B batch, T tokens padded to the batch's longest record, D width, N tokens of all records, M records read.

Values travel to a GPU in the type they are decoded to (half precision for float16 stores), from pinned buffers, and
become float32 there.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from umecache.stores import Store
from umecache.stores.dtypes import decoded_dtype, row_bytes
from umecache.training.targets import Index

FIRST_READ = 256  # records at a time when a store is read into memory
STAGES = 4  # pinned buffers in turn: more than batches are gathered ahead
_TORCH = {"float16": torch.float16, "float32": torch.float32}


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
        pinned = keep.type == "cpu" and device.type == "cuda"
        kept_ND = torch.zeros(
            self._zero_row + 1, store.dim, dtype=_TORCH[decoded_dtype(store.dtype).name], pin_memory=pinned
        )
        for first in range(0, len(rows), FIRST_READ):
            part = slice(first, first + FIRST_READ)
            tokens_BTD, mask_BT = store.batch_rows(rows[part])
            kept_ND[int(self._starts[first]) : int(ends[part][-1])] = torch.from_numpy(tokens_BTD[mask_BT])
        self._tokens_ND = kept_ND.to(keep)
        self._device, self._staging = device, Staging(device)
        self.bytes_read = self._zero_row * row_bytes(store.dtype, store.dim)

    def gather(self, index_B: Index) -> tuple[Tensor, Tensor]:
        record_B = torch.from_numpy(self._record_of[index_B])
        lengths_B = self._lengths[record_B]
        position_T = torch.arange(max(int(lengths_B.max()) if len(lengths_B) else 0, 1))
        mask_BT = position_T < lengths_B[:, None]
        row_BT = torch.where(mask_BT, self._starts[record_B][:, None] + position_T, self._zero_row)
        if self._tokens_ND.device == self._device:
            tokens_BTD = self._tokens_ND[row_BT.to(self._device)]
            return tokens_BTD.to(torch.float32), mask_BT.to(self._device)
        stage_BTD = self._staging.room((*row_BT.shape, self._tokens_ND.shape[1]), self._tokens_ND.dtype)
        torch.index_select(self._tokens_ND, 0, row_BT.flatten(), out=stage_BTD.view(-1, stage_BTD.shape[2]))
        return self._staging.send(stage_BTD), mask_BT.to(self._device)


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
        dtype = decoded_dtype(store.dtype)
        self._longest = max(int(store.lengths[first].max(initial=0)), 1)
        self._slots = min(window, len(first))
        self._kept_MTD = np.empty((self._slots, self._longest, store.dim), dtype)
        self._slot_of = np.full(len(first), -1, np.int64)  # record -> where it is kept
        self._holds = np.full(self._slots, -1, np.int64)  # slot -> record
        self._next = 0
        self._dtype = _TORCH[dtype.name]

    def gather(self, index_B: Index) -> tuple[Tensor, Tensor]:
        record_B = self._record_of[index_B]
        lengths_B = self._store.lengths[self._rows[record_B]].astype(np.int64)
        longest = max(int(lengths_B.max(initial=0)), 1)
        stage_BTD = self._staging.room((len(index_B), longest, self._store.dim), self._dtype)
        mask_BT = np.arange(longest) < lengths_B[:, None]
        wanted = np.unique(record_B)
        if len(wanted) > self._slots:
            self.bytes_read += int(lengths_B.sum()) * self._token_bytes
            self._store.batch_rows(self._rows[record_B], out=stage_BTD.numpy())
        else:
            self._fetch(wanted[self._slot_of[wanted] < 0], wanted)
            for row_TD, slot in zip(stage_BTD.numpy(), self._slot_of[record_B].tolist(), strict=True):
                row_TD[...] = self._kept_MTD[slot, :longest]
        return self._staging.send(stage_BTD), torch.from_numpy(mask_BT).to(self._device)

    def _fetch(self, missing: Index, wanted: Index) -> None:
        """Read records into the slots of the oldest ones; those that are wanted now stay."""
        for first in range(0, len(missing), FIRST_READ):
            records = missing[first : first + FIRST_READ]
            lengths = self._store.lengths[self._rows[records]]
            tokens_MTD, _ = self._store.batch_rows(self._rows[records])
            self.bytes_read += int(lengths.sum()) * self._token_bytes
            for row, record in enumerate(records.tolist()):
                slot = self._free_slot(wanted)
                self._kept_MTD[slot, : tokens_MTD.shape[1]] = tokens_MTD[row]
                self._kept_MTD[slot, tokens_MTD.shape[1] :] = 0
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
        """float32 on the device."""
        if not self._cuda:
            return stage.to(self._device, torch.float32, copy=True)
        sent = stage.to(self._device, non_blocking=True)
        self._copied[self._turn] = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._copied[self._turn].record()
        return sent.to(torch.float32)


def distinct(store: Store, ids: Index) -> tuple[Index, Index]:
    """Rows of the distinct records behind some ids, and which of them each id has: equal inputs share one."""
    rows = store.rows(ids)
    place = np.where(store.lengths[rows] > 0, store.starts[rows], -1)  # all failed inputs are one empty record
    _, first, record_of = np.unique(place, return_index=True, return_inverse=True)
    return rows[first], record_of.astype(np.int64)


def bytes_needed(store: Store, ids: Index) -> int:
    """What all features of some ids take in memory, equal inputs counted once."""
    lengths = store.lengths[distinct(store, ids)[0]]
    return int(lengths.sum()) * store.dim * decoded_dtype(store.dtype).itemsize
