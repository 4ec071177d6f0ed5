"""The errors that a user can act on. Anything else that escapes is a bug and keeps its traceback."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from umecache.stores.errors import UmecacheError

__all__ = [
    "DataError",
    "JobFailed",
    "MissingExtra",
    "Stopped",
    "UmecacheError",
    "UnknownName",
    "UnreadableInput",
    "UsageError",
]


class UsageError(UmecacheError):
    """Options that don't fit together or can't be read."""


class DataError(UmecacheError):
    """A data folder or file that can't be used; names the file and the record."""


class JobFailed(UmecacheError):
    """The job ran and failed (exit status 1)."""

    exit_status = 1


class Stopped(JobFailed):
    """Somebody stopped the job: Ctrl-C, SIGTERM."""


class UnreadableInput(UmecacheError):
    """One input that can't be read: recorded in the store's failure list, never fatal by itself."""


class MissingExtra(UmecacheError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, *, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed.",
            next=f"pip install 'umecache[{extra}]'",
        )


class UnknownName(UmecacheError):
    """A name that no registry knows, with the nearest ones it does know."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, listing: str) -> None:
        known = sorted(known)
        close = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        guess = f"Did you mean {' or '.join(repr(c) for c in close)}?" if close else f"Known: {', '.join(known)}."
        super().__init__(f"Unknown {kind} {name!r}.", why=guess, next=f"{listing} lists them all.")
