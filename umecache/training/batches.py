"""Features from stores into batches: read once, fed to every head.

    reader = FeatureReader({"text": (text_store, question_ids), "image": (image_store, image_ids)}, residency="auto")
    for batch in batches(reader, epoch_order(index, order_seed=0, epoch=3), batch_size=64, device=device):
        batch.features["text"]     # (tokens [B, T, D] float32, mask [B, T] bool) on the device

Shapes: B batch, T tokens of a modality padded to the batch's longest record, D width of its hidden states.

A thread gathers the next batches while heads compute. Small stores are kept on the device or in RAM after one read;
larger ones are gathered from the store's memory map (`sources.py`), and an order by windows of images then reads every
image once per epoch.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass

import torch

from umecache.fusion.base import SharedFeatures
from umecache.sharing.reading import RemoteStore
from umecache.stores import Store
from umecache.training.config import Residency
from umecache.training.memory import free_memory
from umecache.training.sources import FromStore, InMemory, Source, bytes_needed
from umecache.training.targets import Index

PREFETCH = 2  # batches gathered ahead
MEMORY_SHARE = 0.25  # of the free memory: what "auto" may fill with features


@dataclass(frozen=True, slots=True)
class Batch:
    """Some questions: their positions in the split, and their features on the device."""

    index: Index  # [B]
    features: SharedFeatures  # what heads compute alike is computed once


class FeatureReader:
    """The features of one split's questions, by position.

    Args:
        stores: modality -> (store, one id per question of the split), in the order that fusions see them.
        device: where batches go.
        residency: "device" keeps all features there, "memory" in RAM (pinned, where the device is a GPU), "store" reads
            them each time; "auto" takes the first of these that has room.
        window: records kept where they are read from the store; see `FromStore`.

    Attributes:
        residency: which it is: "device", "memory" or "store".
        bytes_needed: what all features take in memory, equal inputs counted once.
        waited: seconds that batches were waited for.
        looped: seconds of the loops over batches, all in all.
    """

    def __init__(
        self,
        stores: Mapping[str, tuple[Store, Index]],
        *,
        device: torch.device,
        residency: Residency = "auto",
        window: int = 0,
    ) -> None:
        self.device = device
        for store, ids in stores.values():
            if isinstance(store, RemoteStore):  # the shards that are needed come side by side
                store.bring(store.rows(ids))
        self.bytes_needed = sum(bytes_needed(store, ids) for store, ids in stores.values())
        self.residency = room_for(self.bytes_needed, device) if residency == "auto" else residency
        self.waited = self.looped = 0.0
        keep = device if self.residency == "device" else torch.device("cpu")
        self._sources: dict[str, Source] = {
            name: FromStore(store, ids, device=device, window=window)
            if self.residency == "store"
            else InMemory(store, ids, keep=keep, device=device)
            for name, (store, ids) in stores.items()
        }

    @property
    def bytes_read(self) -> int:
        """Bytes of stored features fetched so far."""
        return sum(source.bytes_read for source in self._sources.values())

    def gather(self, index_B: Index) -> Batch:
        """The batch of these questions."""
        return Batch(index_B, SharedFeatures({name: source.gather(index_B) for name, source in self._sources.items()}))


def room_for(size: int, device: torch.device) -> Residency:
    """Where so many bytes of features have room: the device, RAM, or neither ("store")."""
    if size <= MEMORY_SHARE * free_memory(device):
        return "memory" if device.type == "cpu" else "device"
    return "memory" if size <= MEMORY_SHARE * free_memory(torch.device("cpu")) else "store"


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
    started = time.perf_counter()
    thread.start()
    try:
        while True:
            asked = time.perf_counter()
            item = ready.get()
            reader.waited += time.perf_counter() - asked
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
        reader.looped += time.perf_counter() - started
