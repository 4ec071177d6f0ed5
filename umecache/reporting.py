"""How long jobs tell what they do, without knowing who listens.

Library code takes a `Reporter` and never prints. The command line passes one that draws Rich bars on a terminal and
plain lines elsewhere (`umecache.cli.output`); from Python the default is silence.
"""

from __future__ import annotations

from typing import Protocol


class Task(Protocol):
    """One bar."""

    def advance(self, n: float = 1, **facts: object) -> None:
        """Move on by `n` units; `facts` (say `gb=1.2`, `loss=0.3`) are shown beside the bar."""

    def __enter__(self) -> Task: ...

    def __exit__(self, *exc: object) -> None: ...


class Reporter(Protocol):
    """Where progress and remarks go."""

    def task(self, label: str, total: float | None, unit: str = "items") -> Task:
        """Open a bar of `total` units (None: unknown)."""

    def say(self, line: str) -> None:
        """One remark, one line."""


class _SilentTask:
    def advance(self, n: float = 1, **facts: object) -> None:
        pass

    def __enter__(self) -> _SilentTask:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class Silent:
    """The reporter that says nothing."""

    def task(self, label: str, total: float | None, unit: str = "items") -> Task:
        return _SilentTask()

    def say(self, line: str) -> None:
        pass
