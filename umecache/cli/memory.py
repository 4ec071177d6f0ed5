"""Memory that batches leave behind goes back to the system.

glibc learns from the first large block that is freed to keep blocks of up to 32 MB for later. Batches of features and
activations are of many sizes, made in one thread and freed in another: what is kept fits nothing that follows, and a
long epoch fills gigabytes with it. Blocks from 1 MB on are therefore asked of the system one by one; it zeroes them,
which costs little beside what is computed on them.
"""

from __future__ import annotations

import ctypes
import os
import sys

M_MMAP_THRESHOLD = -3  # malloc.h
THRESHOLD_BYTES = 1 << 20


def steady_memory() -> bool:
    """Tell this process's allocator so; False where it can't be told (not glibc) or where the user has told it."""
    if sys.platform != "linux" or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES))
