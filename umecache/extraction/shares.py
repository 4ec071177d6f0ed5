"""Where the time of an extraction goes: waiting for inputs, encoding, waiting for the store.

The three are measured in the thread that feeds the encoder, so they add up to the time that passed; reading and writing
that happens beside the encoder costs nothing and shows nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Part = Literal["read", "encode", "write"]
NAMES: tuple[Part, ...] = ("read", "encode", "write")
BOTTLENECK = 0.2  # of the time: more than this spent waiting is worth a hint
SETTLED = 5.0  # seconds: before, shares say little
HINTS = {
    "read": "The encoder waited for its inputs: put the images on a local disk, give more --workers, or store them"
    " smaller (they are decoded at full size).",
    "write": "The encoder waited for the store: a faster disk, --dtype float16 or int8, or fewer --layers.",
}


@dataclass
class Shares:
    """Seconds by part."""

    seconds: dict[Part, float] = field(default_factory=lambda: dict.fromkeys(NAMES, 0.0))

    @contextmanager
    def of(self, part: Part) -> Iterator[None]:
        """Time what happens inside."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - started

    def fractions(self) -> dict[Part, float]:
        """Each part's share of the time measured, 0 to 1."""
        total = sum(self.seconds.values())
        return {part: seconds / total if total else 0.0 for part, seconds in self.seconds.items()}

    def words(self) -> str:
        """`read 3 %, encode 95 %, write 2 %`."""
        return ", ".join(f"{part} {share:.0%}".replace("%", " %") for part, share in self.fractions().items())

    def hint(self) -> str | None:
        """What to do about the bottleneck; None where the encoder is it, as it should be, or the run was too short."""
        waits = {part: share for part, share in self.fractions().items() if part != "encode"}
        worst = max(waits, key=lambda part: waits[part])
        return HINTS[worst] if waits[worst] > BOTTLENECK and sum(self.seconds.values()) >= SETTLED else None
