"""How many records a batch holds.

As asked; else as the store was begun with, so that a run that goes on elsewhere makes the same batches; else on a GPU
the size from which doubling brings nothing more, elsewhere one that suits the modality. Whatever it is, it is halved
when memory runs out (`ShardEncoder`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from umecache.encoders.base import Encoder
from umecache.extraction.config import ExtractConfig, Precision
from umecache.extraction.devices import autocast
from umecache.extraction.transfer import out_of_memory
from umecache.extraction.tuning import example
from umecache.stores import begun_facts

BATCH_SIZES = {
    ("cpu", "text"): 64,
    ("cpu", "image"): 16,
    ("cpu", "audio"): 4,
    ("cuda", "text"): 256,
    ("cuda", "image"): 64,
    ("cuda", "audio"): 16,
}
MOST = {"text": 4096, "image": 1024, "audio": 128}  # a first convolution makes 49 million numbers of 30 s
PAYS = 1.05  # a size twice as large has to be this much faster
RUNS = 3


def batch_size(config: ExtractConfig, usual: int, store: Path) -> int:
    """Records of one batch of `store`: as asked, else as it was begun with, else `usual`."""
    if config.batch_size is not None:
        return config.batch_size
    begun = begun_facts(store)
    origin = None if begun is None else begun.get("origin")
    size = origin.get("batch_size") if isinstance(origin, Mapping) else None
    return size if type(size) is int and size > 0 else usual


def usual_size(config: ExtractConfig, views: Sequence[Encoder], device: torch.device) -> int:
    """The size for stores that nobody has begun. On a GPU it is measured there, in a second or two.

    Args:
        views: the encoder, on `device`; every layer that one pass gives.
    """
    if config.batch_size is not None:
        return config.batch_size
    encoder = views[0]
    kind = "cuda" if device.type == "cuda" else "cpu"
    # The table may lack a modality that a package of one's own brings.
    start = BATCH_SIZES.get((kind, encoder.modality), BATCH_SIZES[kind, "image"])
    if kind == "cpu":  # its cores are busy from small batches on, and what is larger leaves the caches
        return start
    return grow(lambda size: seconds_of(views, size, device, config.precision), start, MOST.get(encoder.modality, 1024))


def grow(seconds: Callable[[int], float], start: int, most: int) -> int:
    """Double the size while that raises the rate and fits.

    Args:
        seconds: how long one batch of a size takes; an out-of-memory error says that it doesn't fit.
    """
    best, rate, size = start, 0.0, start
    while size <= most:
        try:
            found = size / max(seconds(size), 1e-9)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            break
        if found < PAYS * rate:
            break
        best, rate, size = size, found, 2 * size
    return best


def seconds_of(views: Sequence[Encoder], size: int, device: torch.device, precision: Precision) -> float:
    """The best of a few runs of one batch of made-up inputs."""
    encoder = views[0]
    batch = {name: x.to(device) for name, x in encoder.collate([example(encoder)] * size).items()}
    taken = []
    for _ in range(RUNS):
        wait(device)
        started = time.perf_counter()
        with torch.inference_mode(), autocast(device, precision):
            encoder.encode_layers(batch, views)
        wait(device)
        taken.append(time.perf_counter() - started)
    return min(taken)


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
