"""One thread that works behind its caller, in order, a few jobs at most.

with Behind(most=2) as behind:
    behind.put(lambda: write(batch))     # waits while two jobs are waiting already
    behind.drain()                       # all done; the first error of a job is raised here or by a later `put`
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Behind:
    """A bounded queue before one thread. After a job has failed, those behind it are skipped."""

    def __init__(self, most: int, *, name: str = "umecache-behind") -> None:
        self._most = most
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: deque[Future[None]] = deque()
        self._failed = False

    def put(self, job: Callable[[], None]) -> None:
        """Queue a job; waits for room, and raises what an earlier job raised."""
        while len(self._waiting) >= self._most:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._do, job))

    def drain(self) -> None:
        """Wait for all jobs; raises what one of them raised."""
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        """Finish what is queued (it is encoded already), end the thread. Errors are not raised any more."""
        self._pool.shutdown(wait=True)

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _do(self, job: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            job()
        except BaseException:
            self._failed = True
            raise
