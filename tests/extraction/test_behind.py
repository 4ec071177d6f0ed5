"""The thread behind: order, bound, errors."""

from __future__ import annotations

import threading
import time

import pytest

from umecache.extraction.behind import Behind


def test_jobs_run_in_order() -> None:
    done: list[int] = []
    with Behind(most=2) as behind:
        for number in range(20):
            behind.put(lambda number=number: done.append(number))  # type: ignore[misc]
        behind.drain()
    assert done == list(range(20))


def test_the_caller_waits_for_room() -> None:
    gate = threading.Event()

    def held() -> None:
        gate.wait(10)

    with Behind(most=2) as behind:
        behind.put(held)
        behind.put(lambda: None)
        threading.Timer(0.1, gate.set).start()
        started = time.monotonic()
        behind.put(lambda: None)
        assert time.monotonic() - started > 0.05
        behind.drain()


def test_an_error_surfaces_and_what_stands_behind_it_is_skipped() -> None:
    done: list[str] = []
    gate = threading.Event()

    def fail() -> None:
        gate.wait(10)
        raise OSError("disk full")

    with Behind(most=2) as behind:
        behind.put(fail)
        behind.put(lambda: done.append("after"))
        gate.set()
        with pytest.raises(OSError, match="disk full"):
            behind.drain()
        behind.put(lambda: done.append("later"))
        behind.drain()
    assert done == []


def test_closing_finishes_what_is_queued_and_leaves_no_thread() -> None:
    before, done = set(threading.enumerate()), []
    behind = Behind(most=3)
    for number in range(3):
        behind.put(lambda number=number: (time.sleep(0.02), done.append(number))[1])  # type: ignore[misc]
    behind.close()
    behind.close()
    assert done == [0, 1, 2]
    assert set(threading.enumerate()) <= before
