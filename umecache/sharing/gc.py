"""What could go: stores that no run uses, that are there twice, unfinished, damaged; and what killed jobs left behind.

    for each in examine(stores_homes(), runs): print(each.path, each.why, each.bytes, each.kept)
    delete(each)

Nothing of another user is ever deleted, nothing that somebody writes or reads, and each thing in one step: renamed
out of sight first, so that nobody meets half of it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from umecache.sharing.usage import readers
from umecache.stores.catalog import DEPTH, find_stores
from umecache.stores.claims import Claims
from umecache.stores.commit import CHECKSUMS
from umecache.stores.errors import StoreError, StoreTooNew
from umecache.stores.files import WORK
from umecache.stores.manifest import read_manifest
from umecache.stores.reader import open_store
from umecache.stores.verify import verify

QUIET = 3600.0  # seconds without a change after which unfinished work counts as abandoned
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that could go.

    Attributes:
        why: "damaged", "incomplete", "duplicated", "unused" or "leftover".
        detail: in words.
        bytes: that deleting it frees.
        kept: why it stays all the same; "" where it may be deleted.
    """

    path: Path
    why: str
    detail: str
    bytes: int
    kept: str

    def as_json(self) -> dict[str, Any]:
        """As `store gc --json` prints it."""
        return {**asdict(self), "path": str(self.path)}


def examine(
    roots: Sequence[Path],
    runs: Mapping[str, Sequence[Path]],
    *,
    older: float = 7.0,
    deep: bool = False,
    tick: Callable[[int], None] = lambda n: None,
) -> list[Finding]:
    """Everything below `roots` that could go, in their order. Changes nothing.

    Args:
        roots: folders of stores, the one to be kept first where a store is in two.
        runs: by fingerprint of the stores they were trained on.
        older: days since a store was finished before it is called unused.
        deep: read every byte, instead of sizes and metadata, to find damage.
        tick: told of the bytes that a deep look has read.
    """
    found: list[Finding] = []
    seen: dict[tuple[str, str], Path] = {}
    for root in roots:
        found += _leftovers(root)
        for path in find_stores(root):
            if path.is_symlink():
                continue
            if not (path / CHECKSUMS).is_file():
                found += _incomplete(path)
                continue
            try:
                facts = read_manifest(path)
                if deep:
                    problems = [damage.reason for damage in verify(path, tick=tick).damaged]
                else:
                    open_store(path)
                    problems = []
            except StoreTooNew:  # not for this version to judge, so never to delete
                continue
            except StoreError as error:
                problems = [error.what]
            if problems:
                found.append(_finding(path, "damaged", problems[0]))
                continue
            key = (facts["fingerprint"], facts["format"])
            if key in seen:
                found.append(_finding(path, "duplicated", f"the same features are in {seen[key]}"))
                continue
            seen[key] = path
            days = (time.time() - (path / CHECKSUMS).stat().st_mtime) / DAY
            if not runs.get(facts["fingerprint"]) and days >= older:
                found.append(_finding(path, "unused", f"no run names it, {days:,.0f} days old"))
    return found


def _incomplete(path: Path) -> list[Finding]:
    quiet = time.time() - _newest(path)
    kept = "" if quiet >= QUIET else f"changed {quiet / 60:.0f} minutes ago"
    return [_finding(path, "incomplete", f"abandoned, last change {quiet / DAY:,.1f} days ago", kept)]


def _leftovers(root: Path) -> Iterator[Finding]:
    """Folders that killed pulls, seals and deletions left, beside stores and in finished ones."""
    base = len(root.parts)
    for name, folders, _ in os.walk(root):
        folder = Path(name)
        for each in sorted(folders):
            path = folder / each
            staging = each.startswith(".") and (".pulling" in each or ".deleted-" in each)
            work = each.startswith(f"{WORK}-") or (each == WORK and (folder / CHECKSUMS).is_file())
            if (staging or work) and not path.is_symlink():
                quiet = time.time() - _newest(path)
                kept = "" if quiet >= QUIET or ".deleted-" in each else f"changed {quiet / 60:.0f} minutes ago"
                what = "a pull that was not finished" if ".pulling" in each else "what a killed process left"
                yield _finding(path, "leftover", what, kept)
        deep = len(folder.parts) - base >= DEPTH + 1 or (folder / CHECKSUMS).is_file()
        folders[:] = [] if deep else [each for each in folders if not each.startswith(".")]


def _finding(path: Path, why: str, detail: str, kept: str = "") -> Finding:
    return Finding(path, why, detail, _bytes(path), kept or _protected(path))


def _protected(path: Path) -> str:
    """Why a folder must not be deleted by us, whatever is wrong with it; "" where nothing speaks against it."""
    me = os.geteuid()
    if any(each.lstat().st_uid != me for each in _everything(path)):
        return "another user's files are in it"
    for folder in (path / WORK / "claims", path / "claims"):
        live = Claims(folder).live()
        if live:
            return f"{live[0]['host']}:{live[0]['pid']} is writing it"
    using = [pid for pid in readers(path) if pid != os.getpid()]
    if using:
        return f"process {using[0]} has it open"
    if not os.access(path.parent, os.W_OK):
        return "its folder may not be written"
    return ""


def _everything(path: Path) -> Iterator[Path]:
    yield path
    for name, folders, files in os.walk(path):
        yield from (Path(name) / each for each in (*folders, *files))


def _bytes(path: Path) -> int:
    return sum(each.lstat().st_size for each in _everything(path) if not each.is_dir())


def _newest(path: Path) -> float:
    return max(each.lstat().st_mtime for each in _everything(path))


def delete(finding: Finding) -> str:
    """Delete it, unless something speaks against it by now; returns why it was kept, or "".

    Raises:
        OSError: the system refuses.
    """
    kept = finding.kept or _protected(finding.path)
    if kept:
        return kept
    path = finding.path.absolute()
    hidden = path if ".deleted-" in path.name else path.parent / f".{path.name}.deleted-{os.getpid()}"
    if hidden != path:
        path.replace(hidden)
    shutil.rmtree(hidden)
    return ""
