"""Download a data set: only the parts asked for, resumed where it stopped, checked by counts.

    umecache data get vqa-v2 --split train,val --parts questions,annotations

Each archive is fetched (`umecache.data.fetch`), unpacked and counted (`umecache.data.unpack`), and noted with size and
sha256 in `downloads.json`. What is noted and still in place is not fetched again. There are no official checksums: to
pin your own, copy a `downloads.json` that you trust into the new folder first; an archive that differs is refused.

Several processes may run at once: each archive has a lock, and who comes second waits, then finds the work done.
VQA v2 train and val: 20 GB over the network, 28 GB of disk at the peak, 21 GB in the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umecache.data.catalogue import DATASETS, PARTS, Archive, select
from umecache.data.fetch import FetchOptions, check_url, fetch, size_of
from umecache.data.files import write_text
from umecache.data.unpack import BadArchive, FreeBytes, count_contents, free_bytes, unpack
from umecache.errors import DataError, JobFailed, UnknownName
from umecache.home import data_home
from umecache.reporting import Reporter

try:
    import fcntl
except ImportError:  # Windows: no locks between processes
    fcntl = None  # type: ignore[assignment]

NOTES = "downloads.json"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one archive.

    Attributes:
        status: "fetched" or "present".
        url, bytes, sha256: of the archive; None where its contents were there already, and not from here.
        contents: file or folder -> records or images, as counted.
    """

    archive: str
    status: str
    url: str | None
    bytes: int | None
    sha256: str | None
    contents: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """For `umecache data get --json`."""
        return {
            "archive": self.archive,
            "status": self.status,
            "url": self.url,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "contents": self.contents,
        }


def get(
    name: str,
    *,
    splits: Sequence[str] = ("train", "val"),
    parts: Sequence[str] = PARTS,
    out: Path | None = None,
    base_url: str | None = None,
    keep_archives: bool = False,
    options: FetchOptions | None = None,
    archives: Iterable[Archive] | None = None,
    free: FreeBytes = free_bytes,
) -> tuple[Path, list[Fetched]]:
    """Download the archives that some splits and parts of a data set need.

    Args:
        name: a data set of the catalogue.
        out: the folder; by default `UMECACHE_HOME/data/NAME`.
        base_url: a folder of a mirror that has all archives under their own names.
        keep_archives: keep the zip files.
        archives: another catalogue, for tests.
        free: bytes free on a folder's disk.

    Returns:
        The folder, and one entry per archive.

    Raises:
        UnknownName: no such data set, split or part.
        UsageError: `base_url` is no HTTP address.
        JobFailed: network or disk gave up (what arrived is kept), or an archive is not what it should be.
    """
    if name not in DATASETS:
        raise UnknownName("data set", name, DATASETS, listing="umecache data get --help")
    chosen = select(DATASETS[name] if archives is None else archives, splits, parts, listing="umecache data get --help")
    options = options or FetchOptions()
    folder = (out or data_home() / name).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobFailed(f"{folder} can't be made: {error.strerror}.", next="--out DIR elsewhere") from error
    urls = {archive.name: f"{(base_url or archive.base).rstrip('/')}/{archive.name}" for archive in chosen}
    for url in urls.values():
        check_url(url)
    sizes = {a.name: size_of(urls[a.name], options) for a in chosen if not _present(folder, a)}
    _check_space(folder, [a for a in chosen if a.name in sizes], sizes, keep_archives, free)
    done = []
    for archive in chosen:
        with _lock(folder / f".{archive.name}.lock", options.reporter):
            note = _present(folder, archive)  # once more: another process may have done it meanwhile
            if note is None:
                note = _get_one(
                    archive, urls[archive.name], folder, sizes.get(archive.name), keep_archives, options, free
                )
                status = "fetched"
            else:
                status = "present"
        done.append(
            Fetched(
                archive=archive.name,
                status=status,
                url=note["url"],
                bytes=note["bytes"],
                sha256=note["sha256"],
                contents=dict(archive.contents),
            )
        )
    return folder, done


def _get_one(
    archive: Archive,
    url: str,
    folder: Path,
    size: int | None,
    keep_archives: bool,
    options: FetchOptions,
    free: FreeBytes,
) -> dict[str, Any]:
    path = folder / archive.name
    if not path.is_file():
        fetch(url, path, options, size=size)
    again = "run the same command again: it fetches the archive anew"
    digest = _sha256(path, options.reporter)
    pinned = _notes(folder).get(archive.name, {}).get("sha256")
    if pinned and pinned != digest:
        path.unlink()
        raise JobFailed(
            f"{url} has the sha256 {digest}; {folder / NOTES} says {pinned}.",
            why="The archive was changed, or damaged on its way.",
            next=f"{again}; to accept another archive, take its entry out of {NOTES}",
        )
    length = path.stat().st_size
    try:
        unpack(path, folder, archive.contents, reporter=options.reporter, free=free)
    except (BadArchive, DataError) as error:
        path.unlink()  # it would fail in the same way for ever
        raise JobFailed(error.what, why=error.why or f"It came from {url}.", next=again) from error
    note = {"url": url, "bytes": length, "sha256": digest, "contents": archive.contents}
    with _lock(folder / f".{NOTES}.lock", options.reporter):
        write_text(folder / NOTES, json.dumps({**_notes(folder), archive.name: note}, indent=2) + "\n")
    if not keep_archives:
        path.unlink()
    return note


def _present(folder: Path, archive: Archive) -> dict[str, Any] | None:
    """The note of an archive whose contents are in place; one without size and sha256 where they came otherwise.

    Images are counted each time, which takes a moment. Of JSON files that are noted it is enough that they are there:
    they got their names after they were counted.
    """
    note: dict[str, Any] = _notes(folder).get(archive.name, {})
    noted = note.get("contents") == archive.contents
    for name, count in archive.contents.items():
        path = folder / name
        try:
            if not path.exists() or ((path.is_dir() or not noted) and count_contents(path) != count):
                return None
        except DataError:
            return None  # half a file, put there by hand
    return note if noted else {"url": None, "bytes": None, "sha256": None}


def _notes(folder: Path) -> dict[str, Any]:
    path = folder / NOTES
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read: {error}.", next=f"rm {path}") from error
    fields = {"url": str, "bytes": int, "sha256": str}
    if not isinstance(notes, dict) or not all(
        isinstance(note, dict) and all(isinstance(note.get(field), kind) for field, kind in fields.items())
        for note in notes.values()
    ):
        raise DataError(f"{path} is not a list of downloads.", next=f"rm {path}")
    return notes


def _check_space(
    folder: Path, archives: Sequence[Archive], sizes: dict[str, int | None], keep: bool, free: FreeBytes
) -> None:
    """Refuse before anything is fetched: archives are unpacked one by one, each beside what is there already."""
    unpacked = peak = 0
    for archive in archives:
        arrived = sum(
            path.stat().st_size for path in (folder / archive.name, folder / f"{archive.name}.part") if path.is_file()
        )
        size = sizes[archive.name]
        if size is not None:
            peak = max(peak, unpacked + max(size - arrived, 0) + _unpacked(archive, size))
            unpacked += _unpacked(archive, size) + (size if keep else 0)
    have = free(folder)
    if peak > have:
        raise JobFailed(
            f"This takes {peak / 1e9:.1f} GB of disk at its peak; {folder} has {have / 1e9:.1f} GB left.",
            next="make room, take fewer --split or --parts, or name another disk with --out",
        )


def _unpacked(archive: Archive, size: int) -> int:
    # The catalogue's figure is for the real archive; images don't shrink, so a mirror's smaller one says more.
    return min(archive.unpacked, size) if archive.part == "images" else min(archive.unpacked, 25 * size)


@contextlib.contextmanager
def _lock(path: Path, reporter: Reporter) -> Iterator[None]:
    """One process at a time; the system drops the lock when a process dies."""
    waiting = False
    while True:
        file = path.open("a")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                break
        except BlockingIOError:
            if not waiting:
                reporter.say(f"another process works on {path.name.strip('.').removesuffix('.lock')}; waiting for it")
            waiting = True
            time.sleep(0.2)
        except FileNotFoundError:  # its owner finished and took it away just now
            pass
        except OSError:  # a file system without locks: do without
            break
        file.close()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is ours, so that none of two newcomers gets an orphan
        file.close()


def _sha256(path: Path, reporter: Reporter) -> str:
    digest = hashlib.sha256()
    with (
        path.open("rb") as file,
        reporter.task(f"checking {path.name}", path.stat().st_size / 1e6, "MB") as task,
    ):
        while block := file.read(1 << 20):
            digest.update(block)
            task.advance(len(block) / 1e6)
    return digest.hexdigest()
