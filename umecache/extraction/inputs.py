"""The inputs of one store: ids in order, what each id's input is, and the digest of its content.

Questions are keyed by question id and images by image id, so an image is encoded once however many questions ask
about it; equal contents (a question asked twice) share a digest, and the store keeps them once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from umecache.data.dataset import Split
from umecache.errors import UnreadableInput
from umecache.reporting import Reporter

MISSING = "no file for this image id"
ERROR = "error:"
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Inputs:
    """The ordered input set of one store.

    Attributes:
        ids: one per record.
        digests: sha256 of each input's content (hex); `missing:ID` where there is none, "" where it is not known yet.
        failures: position -> reason, for inputs known to be unreadable before anything is encoded.
        read: the input at a position: a question's text or an image file's bytes; raises UnreadableInput.
    """

    ids: tuple[int, ...]
    digests: tuple[str, ...]
    read: Callable[[int], str | bytes]
    failures: dict[int, str] = field(default_factory=dict)


def question_inputs(split: Split) -> Inputs:
    """Every question of the split, in file order."""
    texts = [question.text for question in split.questions]
    digests = tuple(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts)
    return Inputs(tuple(question.id for question in split.questions), digests, texts.__getitem__)


def digest_images(split: Split, reporter: Reporter, *, workers: int) -> list[str]:
    """Per image of `split.image_ids`: the sha256 (hex) of its file, or `error:` and why it can't be read."""
    paths = [split.image_path(image_id) for image_id in split.image_ids]
    digests: list[str] = []
    with (
        reporter.task(f"reading {split.name} images", len(paths), "images") as task,
        ThreadPoolExecutor(workers) as pool,
    ):
        for digest in pool.map(_digest, paths):
            digests.append(digest)
            task.advance()
    return digests


def image_inputs(split: Split, outcomes: Sequence[str]) -> Inputs:
    """Every image that a question of the split asks about, in order of first mention.

    Args:
        split: where the images lie.
        outcomes: `digest_images` of it.
    """
    failures = {p: text.removeprefix(ERROR) for p, text in enumerate(outcomes) if text.startswith(ERROR)}
    digests = tuple(
        f"missing:{split.image_ids[position]}" if position in failures else text
        for position, text in enumerate(outcomes)
    )

    def read(position: int) -> bytes:
        path = split.image_path(split.image_ids[position])
        if path is None:
            raise UnreadableInput(MISSING)
        try:
            return path.read_bytes()
        except OSError as error:
            raise UnreadableInput(_reason(error)) from error

    return Inputs(split.image_ids, digests, read, failures)


def cores() -> int:
    """This process's share of the cores that it may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, allowed // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def default_workers(device: torch.device) -> int:
    """Threads that read and decode beside the encoder.

    Beside a GPU: every core of this process, and one more to wait for the disk. On the CPU the encoder's own threads
    want the cores, and one that is taken from them holds up the others at the end of each operation; reading is the
    smaller work by far, so half as many threads do it.
    """
    return max(1, cores() // 2) if device.type == "cpu" else min(32, cores() + 1)


def content_digest(item: str | bytes) -> str:
    """sha256 of an input's content, as the fingerprint counts it."""
    return hashlib.sha256(item.encode("utf-8", "surrogatepass") if isinstance(item, str) else item).hexdigest()


def by_length(positions: Sequence[int], lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Batches of one shard: like lengths together, so that little is padded.

    They depend on the shard's own records only, never on processes or on where a run was cut.
    """
    order = sorted(positions, key=lambda position: (lengths[position], position))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _digest(path: Path | None) -> str:
    if path is None:
        return f"{ERROR}{MISSING}"
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        return f"{ERROR}{_reason(error)}"
    return digest.hexdigest()


def _reason(error: OSError) -> str:
    return f"can't be read: {error.strerror or type(error).__name__}"
