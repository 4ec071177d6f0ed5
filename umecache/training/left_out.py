"""Rows that a table lacks, since one of their heads could not be trained.

    failed, results = without_failures(material, results)

A rate that is too high for one method must not cost the others their hours: the row is left out, and the table says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from umecache.encoders.base import Json
from umecache.errors import JobFailed
from umecache.training.job import Material, Result


@dataclass(frozen=True, slots=True)
class Failed:
    """A row that is not there, since one of its heads could not be trained."""

    method: str
    encoders: tuple[str, ...]
    seed: int
    lr: float
    failure: JobFailed

    def facts(self) -> dict[str, Json]:
        """What `compare.json` says of it."""
        said: dict[str, Json] = {"method": self.method, "encoders": list(self.encoders), "seed": self.seed}
        return said | {"lr": self.lr, "why": self.failure.what}

    def in_words(self) -> str:
        """One line of the table's warnings."""
        on = " + ".join(self.encoders)
        return f"No row for {self.method} on {on} at rate {self.lr:g}: {self.failure.what}"


def without_failures(material: Material, results: Sequence[Result]) -> tuple[list[Failed], list[Result]]:
    """The first failure of each row that has one, and the results of the other rows: means over the seeds that did
    not fail would flatter a method."""
    encoders = tuple(source.model for source in material.sources)
    failed: dict[tuple[str, float], Failed] = {}
    for result in results:
        spec = result.head.spec
        if result.head.failure is not None:
            failure = Failed(spec.method, encoders, spec.seed, spec.lr, result.head.failure)
            failed.setdefault((spec.method, spec.lr), failure)
    sound = [each for each in results if (each.head.spec.method, each.head.spec.lr) not in failed]
    return list(failed.values()), sound
