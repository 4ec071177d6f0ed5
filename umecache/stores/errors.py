"""What went wrong, why, and the command to run next.

`stores` can be used alone, so the base class of every umecache error lives here, at the bottom of the house;
`umecache.errors` hands it on to the other rooms.
"""

from __future__ import annotations


class UmecacheError(Exception):
    """A mistake or a fault that the user can act on; the command line prints it without a traceback.

    Args:
        what: what is wrong, with the path, field or name it concerns.
        why: the cause, or what was expected; may be empty.
        next: the command or step that mends it; may be empty.
    """

    exit_status = 2  # bad usage or bad input

    def __init__(self, what: str, *, why: str = "", next: str = "") -> None:
        self.what, self.why, self.next = what, why, next
        super().__init__(" ".join(part for part in (what, why, next) if part))

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes send errors home by pickle; keyword-only fields need a word of help.
        return _rebuild, (type(self), self.what, self.why, self.next)

    def with_more(self, why: str) -> UmecacheError:
        """The same error with one more sentence of cause."""
        return _rebuild(type(self), self.what, f"{self.why} {why}".strip(), self.next)

    def as_json(self) -> dict[str, str]:
        """The body of the `error` document that `--json` prints."""
        return {"what": self.what, "why": self.why, "next": self.next}


def _rebuild(kind: type[UmecacheError], what: str, why: str, next_step: str) -> UmecacheError:
    error = kind.__new__(kind)
    UmecacheError.__init__(error, what, why=why, next=next_step)
    return error


class StoreError(UmecacheError):
    """A store that can't be used as asked."""


class StoreMissing(StoreError):
    """No store at that path."""


class StoreIncomplete(StoreError):
    """The store is still being written, or its writer stopped half way."""


class StoreMismatch(StoreError):
    """The store holds something else than what was asked for."""


class StoreTooNew(StoreError):
    """A newer umecache wrote the store: nothing is wrong with it, and nothing of it may be touched."""


class StoreDamaged(StoreError):
    """Files of the store are missing, cut short or changed."""

    exit_status = 1  # a check found damage


class StoreWriteFailed(StoreError):
    """Writing stopped: a full disk, a lost share, a value that the dtype can't hold."""

    exit_status = 1  # the job failed; finished shards stay good


class UnknownId(StoreError, KeyError):
    """An id that is neither stored nor on the store's failure list."""

    def __str__(self) -> str:
        return UmecacheError.__str__(self)  # KeyError would print the quoted repr
