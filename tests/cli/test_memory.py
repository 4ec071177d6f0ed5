"""Freed batches go back to the system."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys
from umecache.cli.memory import steady_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

told = steady_memory()
libc.free(libc.malloc(30 << 20))  # from this glibc learns to keep blocks of up to 30 MB
before = resident()
blocks = [libc.malloc(8 << 20) for _ in range(20)]
for block in blocks:
    ctypes.memset(block, 1, 8 << 20)
for block in blocks[:-1]:  # the last one stays, and holds what lies below it
    libc.free(block)
print(told, (resident() - before) >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_freed_blocks_are_given_back() -> None:
    def run(**variables: str) -> tuple[bool, int]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | variables
        out = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
        assert out.returncode == 0, out.stderr
        told, kept = out.stdout.split()
        return told == "True", int(kept)

    told, kept = run()
    if not told:
        pytest.skip("not glibc")
    assert kept < 20  # MB: the block that stays
    told, kept = run(MALLOC_MMAP_THRESHOLD_=str(32 << 20))  # the user's word counts; and this is what glibc does else
    assert not told
    assert kept > 100
