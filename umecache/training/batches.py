"""Features from stores into batches: read once, fed to every head.

    reader = FeatureReader({"text": (text_store, question_ids), "image": (image_store, image_ids)}, residency="auto")
    for batch in batches(reader, epoch_order(index, order_seed=0, epoch=3), batch_size=64, device=device):
        batch.features["text"]     # (tokens [B, T, D] float32, mask [B, T] bool) on the device

Shapes: B batch, T tokens of a modality padded to the batch's longest record, D width of its hidden states.

A thread gathers the next batches while heads compute. Small stores are kept in memory (on the device) after one read;
larger ones are gathered from the store's memory map each time.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from umecache.stores import Store
from umecache.stores.dtypes import decoded_dtype, row_bytes
from umecache.training.config import Residency
from umecache.training.targets import Index

PREFETCH = 2  # batches gathered ahead
FIRST_READ = 256  # records at a time when a store is read into memory
_TORCH = {"float16": torch.float16, "float32": torch.float32}
MEMORY_SHARE = 0.25  # of the free memory: what "auto" may fill with features


@dataclass(frozen=True, slots=True)
class Batch:
    """Some questions: their positions in the split, and their features on the device."""

    index: Index  # [B]
    features: dict[str, tuple[Tensor, Tensor]]


class _Source(Protocol):
    """Where one modality's features come from."""

    bytes_read: int

    def gather(self, index_B: Index, device: torch.device) -> tuple[Tensor, Tensor]: ...


class _FromStore:
    """Gathers from the store itself, through one buffer that is used again and again."""

    def __init__(self, store: Store, ids: Index) -> None:
        self.store = store
        self.rows = store.rows(ids)
        self.bytes_read = 0
        self._token_bytes = row_bytes(store.dtype, store.dim)
        self._buffer = np.empty(0, decoded_dtype(store.dtype))

    def gather(self, index_B: Index, device: torch.device) -> tuple[Tensor, Tensor]:
        rows_B = self.rows[index_B]
        lengths_B = self.store.lengths[rows_B]
        self.bytes_read += int(lengths_B.sum()) * self._token_bytes
        room_BTD = self._room(len(rows_B), max(int(lengths_B.max(initial=0)), 1))
        tokens_BTD, mask_BT = self.store.batch_rows(rows_B, out=room_BTD)
        # copy=True: the buffer is filled again while heads still read this batch.
        return (
            torch.from_numpy(tokens_BTD).to(device, torch.float32, copy=True),
            torch.from_numpy(mask_BT).to(device, copy=True),
        )

    def _room(self, records: int, longest: int) -> np.ndarray[Any, Any]:
        size = records * longest * self.store.dim
        if self._buffer.size < size:
            self._buffer = np.empty(size, self._buffer.dtype)
        return self._buffer[:size].reshape(records, longest, self.store.dim)


class _InMemory:
    """All distinct records of some ids in one tensor, read once; batches are selected from it on the device."""

    def __init__(self, store: Store, ids: Index, device: torch.device) -> None:
        rows, self.record_of = _distinct(store, ids)
        lengths = store.lengths[rows].astype(np.int64)
        ends = np.cumsum(lengths)
        self.lengths = torch.from_numpy(lengths)
        self.starts = torch.from_numpy(ends - lengths)
        self.zero_row = int(ends[-1]) if len(ends) else 0  # padding points at a row of zeros behind the last record
        kept_ND = torch.zeros(self.zero_row + 1, store.dim, dtype=_TORCH[decoded_dtype(store.dtype).name])
        for first in range(0, len(rows), FIRST_READ):
            part = slice(first, first + FIRST_READ)
            tokens_BTD, mask_BT = store.batch_rows(rows[part])
            kept_ND[int(self.starts[first]) : int(ends[part][-1])] = torch.from_numpy(tokens_BTD[mask_BT])
        self.tokens_ND = kept_ND.to(device)
        self.bytes_read = self.zero_row * row_bytes(store.dtype, store.dim)

    def gather(self, index_B: Index, device: torch.device) -> tuple[Tensor, Tensor]:
        record_B = torch.from_numpy(self.record_of[index_B])
        lengths_B = self.lengths[record_B]
        position_T = torch.arange(max(int(lengths_B.max()) if len(lengths_B) else 0, 1))
        mask_BT = position_T < lengths_B[:, None]
        row_BT = torch.where(mask_BT, self.starts[record_B][:, None] + position_T, self.zero_row)
        tokens_BTD = self.tokens_ND[row_BT.to(device)]
        return tokens_BTD.to(torch.float32), mask_BT.to(device)


class FeatureReader:
    """The features of one split's questions, by position.

    Args:
        stores: modality -> (store, one id per question of the split), in the order that fusions see them.
        device: where batches go.
        residency: "memory" keeps all features on the device, "store" reads them each time, "auto" keeps them where
            they take less than a quarter of the free memory.

    Attributes:
        in_memory: which of the two it is.
        bytes_needed: what all features take in memory, equal inputs counted once.
    """

    def __init__(
        self, stores: Mapping[str, tuple[Store, Index]], *, device: torch.device, residency: Residency = "auto"
    ) -> None:
        self.device = device
        need = sum(
            int(store.lengths[_distinct(store, ids)[0]].sum()) * store.dim * decoded_dtype(store.dtype).itemsize
            for store, ids in stores.values()
        )
        self.in_memory = residency == "memory" or (residency == "auto" and need <= MEMORY_SHARE * free_memory(device))
        self.bytes_needed = need
        self._sources: dict[str, _Source] = {
            name: _InMemory(store, ids, device) if self.in_memory else _FromStore(store, ids)
            for name, (store, ids) in stores.items()
        }

    @property
    def bytes_read(self) -> int:
        """Bytes of stored features fetched so far."""
        return sum(source.bytes_read for source in self._sources.values())

    def gather(self, index_B: Index) -> Batch:
        """The batch of these questions."""
        return Batch(index_B, {name: source.gather(index_B, self.device) for name, source in self._sources.items()})


def _distinct(store: Store, ids: Index) -> tuple[Index, Index]:
    """Rows of the distinct records behind some ids, and which of them each id has: equal inputs share one."""
    rows = store.rows(ids)
    place = np.where(store.lengths[rows] > 0, store.starts[rows], -1)  # all failed inputs are one empty record
    _, first, record_of = np.unique(place, return_index=True, return_inverse=True)
    return rows[first], record_of.astype(np.int64)


def epoch_order(index: Index, *, order_seed: int, epoch: int) -> Index:
    """The order of one epoch: the same for every head that shares the read."""
    return np.random.default_rng([order_seed, epoch]).permutation(index)


def batches(reader: FeatureReader, index: Index, *, batch_size: int) -> Generator[Batch, None, None]:
    """Batches in the order of `index`, gathered ahead by a thread; the last may be smaller."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(PREFETCH)
    stop = threading.Event()

    def hand_over(item: Batch | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for first in range(0, len(index), batch_size):
                if not hand_over(reader.gather(index[first : first + batch_size])):
                    return
            hand_over(None)
        except BaseException as error:
            hand_over(error)

    thread = threading.Thread(target=work, name="umecache-batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def free_memory(device: torch.device) -> int:
    """Bytes that can still be used on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo") as facts:  # noqa: PTH123 - a kernel file, not a path of ours
            available = next(line for line in facts if line.startswith("MemAvailable:"))
        return int(available.split()[1]) * 1024
    except (OSError, StopIteration):
        return 4 << 30  # no such file on this system: assume a small machine
