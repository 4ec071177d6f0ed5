"""The inputs of one store: ids in order, what each id's input is, and the digest of its content.

Questions are keyed by question id, images and sounds by their own, so an image is encoded once however many questions
ask about it; equal contents (a question asked twice) share a digest, and the store keeps them once.
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
from umecache.encoders.audiofile import SoundSize, sound_size
from umecache.errors import UnreadableInput
from umecache.reporting import Reporter

MISSING = {"image": "no file for this image id", "audio": "no file for this sound"}
WORDS = {"image": "images", "audio": "sounds", "text": "questions"}  # what is counted
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of an image or sound file before it is decoded.

    Attributes:
        digest: sha256 (hex) of its content; "" where it was not read.
        failure: why it can't be used; "" where nothing is known against it.
        size: of a sound.
    """

    digest: str = ""
    failure: str = ""
    size: SoundSize | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """The ordered input set of one store.

    Attributes:
        ids: one per record.
        digests: sha256 of each input's content (hex); `missing:ID` where there is none, "" where it is not known yet.
        failures: position -> reason, for inputs known to be unreadable before anything is encoded.
        read: the input at a position: a question's text or a file's bytes; raises UnreadableInput.
        sizes: of sounds, where they are known.
    """

    ids: tuple[int, ...]
    digests: tuple[str, ...]
    read: Callable[[int], str | bytes]
    failures: dict[int, str] = field(default_factory=dict)
    sizes: tuple[SoundSize | None, ...] = ()


def question_inputs(split: Split) -> Inputs:
    """Every question of the split, in file order."""
    texts = [question.text for question in split.questions]
    digests = tuple(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts)
    return Inputs(tuple(question.id for question in split.questions), digests, texts.__getitem__)


def inputs_of(split: Split, modality: str, facts: Sequence[FileFacts] | None = None) -> Inputs:
    """What encoders of a modality read of a split: its questions, images or sounds.

    Args:
        facts: `look_at_files`; None: nothing is known of files yet.
    """
    return question_inputs(split) if modality == "text" else file_inputs(split, modality, facts)


def look_at_files(split: Split, modality: str, reporter: Reporter, *, workers: int) -> list[FileFacts]:
    """Read every image or sound file of the split once: digests, and how long sounds are.

    Raises:
        DataError: the split has no sounds.
        MissingExtra: sounds are of a kind whose reader is not installed.
    """
    paths = [split.file_path(modality, file_id) for file_id in split.file_ids(modality)]
    found: list[FileFacts] = []
    words = WORDS[modality]
    with (
        reporter.task(f"reading {split.name} {words}", len(paths), words) as task,
        ThreadPoolExecutor(workers) as pool,
    ):
        for facts in pool.map(_look, [modality] * len(paths), paths):
            found.append(facts)
            task.advance()
    return found


def file_inputs(split: Split, modality: str, facts: Sequence[FileFacts] | None = None) -> Inputs:
    """Every image or sound that a question of the split is about, in order of first mention.

    Args:
        facts: `look_at_files` of it; None: nothing is known yet.
    """
    ids = split.file_ids(modality)
    known = [FileFacts()] * len(ids) if facts is None else facts
    failures = {p: each.failure for p, each in enumerate(known) if each.failure}
    digests = tuple(
        f"missing:{ids[position]}" if each.failure and not each.digest else each.digest
        for position, each in enumerate(known)
    )

    def read(position: int) -> bytes:
        path = split.file_path(modality, ids[position])
        if path is None:
            raise UnreadableInput(MISSING[modality])
        try:
            return path.read_bytes()
        except OSError as error:
            raise UnreadableInput(_reason(error)) from error

    return Inputs(ids, digests, read, failures, tuple(each.size for each in known))


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


def _look(modality: str, path: Path | None) -> FileFacts:
    if path is None:
        return FileFacts(failure=MISSING[modality])
    try:
        if modality == "audio":
            return _listen(path.read_bytes())
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        return FileFacts(failure=_reason(error))
    return FileFacts(digest.hexdigest())


def _listen(data: bytes) -> FileFacts:
    digest = content_digest(data)
    try:
        return FileFacts(digest, size=sound_size(data))
    except UnreadableInput as error:
        return FileFacts(digest, failure=str(error))


def _reason(error: OSError) -> str:
    return f"can't be read: {error.strerror or type(error).__name__}"
