"""A NumPy "encoder" and small sets of inputs for it: stores in milliseconds, every value known beforehand.

    toy = Toy.make(ids=30, distinct=20, ragged=True)
    facts = write(tmp_path / "s", toy, format="zarr")
    toy.expected(position)      # [T, D] float32, or None where the input can't be read

Values are multiples of 1/4 between -8 and 8: float16 and bfloat16 hold them exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.stores import open_writer
from umecache.stores.shard import ShardWriter
from umecache.stores.writer import Writer

FACTS = {
    "recipe": {"weights_sha256": "0" * 64, "layers": "last"},
    "origin": {"library": "numpy", "batch_size": 4},
    "dataset": {"name": "toy", "split": "train"},
    "grid": None,
    "modality": "text",
    "model": "toy",
}


@dataclass(frozen=True)
class Toy:
    """Inputs: `content[i]` is what id i holds; equal contents are equal inputs."""

    ids: list[Any]
    content: list[int]
    length_of: dict[int, int]  # tokens by content
    dim: int
    broken: frozenset[int] = frozenset()  # contents that fail when they are encoded
    missing: Mapping[int, str] = field(default_factory=dict)  # position -> reason, known beforehand
    scale: float = 0.25

    @classmethod
    def make(
        cls,
        *,
        ids: int = 24,
        distinct: int = 17,
        dim: int = 6,
        ragged: bool = True,
        strings: bool = False,
        broken: int = 1,
        missing: int = 1,
        seed: int = 0,
    ) -> Toy:
        rng = np.random.default_rng(seed)
        content = [*range(distinct), *rng.integers(0, distinct, ids - distinct).tolist()]
        numbers = rng.permutation(10 * ids)[:ids].tolist()
        length_of = {c: int(rng.integers(1, 6)) if ragged else 5 for c in range(distinct)}
        return cls(
            ids=[f"q-{i}é" for i in numbers] if strings else numbers,
            content=content,
            length_of=length_of,
            dim=dim,
            broken=frozenset(range(3, 3 + broken)),
            missing={ids - 1 - i: "no such file" for i in range(missing)},
        )

    @property
    def digests(self) -> list[str]:
        return [
            f"missing:{i}" if i in self.missing else hashlib.sha256(str(c).encode()).hexdigest()
            for i, c in enumerate(self.content)
        ]

    @property
    def lengths(self) -> list[int]:
        return [0 if i in self.missing else self.length_of[c] for i, c in enumerate(self.content)]

    def encode(self, content: int) -> NDArray[np.float32]:
        rng = np.random.default_rng(content)
        values = rng.integers(-32, 33, (self.length_of[content], self.dim))
        return (values * self.scale).astype(np.float32)

    def expected(self, position: int) -> NDArray[np.float32] | None:
        if position in self.missing or self.content[position] in self.broken:
            return None
        return self.encode(self.content[position])

    @property
    def failed(self) -> list[Any]:
        return [name for i, name in enumerate(self.ids) if self.expected(i) is None]


def begin(path: Path, toy: Toy, **options: Any) -> Writer:
    """A writer for the toy; `options` go to `open_writer`."""
    arguments: dict[str, Any] = {
        "manifest": FACTS,
        "ids": toy.ids,
        "digests": toy.digests,
        "lengths": toy.lengths,
        "dim": toy.dim,
        "shard_records": 5,
        "failures": toy.missing,
    }
    return open_writer(path, **(arguments | options))


def fill(shard: ShardWriter, toy: Toy) -> None:
    """Encode one claimed shard."""
    with shard:
        for position in shard.records:
            if toy.content[position] in toy.broken:
                shard.fail(position, "not an image", "ab" * 32)
            else:
                shard.write(position, toy.encode(toy.content[position]))


def write(path: Path, toy: Toy, **options: Any) -> dict[str, Any]:
    """The whole store."""
    writer = begin(path, toy, **options)
    for shard in writer.claim():
        fill(shard, toy)
    return writer.seal()


def tree(path: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def copies(path: Path, data: bytes) -> Iterator[bytes]:
    """The file's bytes with one bit flipped, at many places; the file itself is put back afterwards."""
    rng = np.random.default_rng(len(data))
    places = {0, len(data) - 1, *rng.integers(0, len(data), 3).tolist()} if data else set()
    for at in sorted(places):
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        yield bytes(changed)
    path.write_bytes(data)
