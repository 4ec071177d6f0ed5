"""SIGTERM as an error in words, so that what a command has half made is cleared away.

with sigterm_stops(why="Nothing of this run was kept."):
    ...
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from umecache.errors import Stopped


@contextlib.contextmanager
def sigterm_stops(*, why: str = "", next: str = "") -> Iterator[None]:
    """Inside, SIGTERM (a scheduler's time limit, `kill`) raises Stopped in the main thread.

    Raises:
        Stopped: on SIGTERM, with `why` and `next`.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped("Stopped by SIGTERM.", why=why, next=next)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
