"""The state of a store that is being written, and the one atomic step that finishes a shard.

    STORE/.writing/plan.json         what every process must agree on
    STORE/.writing/claims/000003.0   who encodes shard 3 (claims.py)
    STORE/.writing/tmp/...           files that nobody else reads
    STORE/receipts/000003.json       shard 3 is done (receipts.py)
    STORE/CHECKSUMS                  the store is sealed: written last; `sha256sum -c CHECKSUMS` checks it

Order of one commit: files to temporary names, fsync, rename to their places, fsync of the directories; then the receipt
the same way. A crash between any two steps leaves either no receipt (the shard is done again, over the same
names) or a true one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from umecache.stores.errors import StoreDamaged, StoreWriteFailed
from umecache.stores.files import (
    WORK,
    canonical,
    fsync_dir,
    make_dirs,
    pretty,
    read_json,
    replace_file,
    sha256_file,
    share,
    write_synced,
)
from umecache.stores.manifest import refuse_newer
from umecache.stores.receipts import FileFact, Receipt, files_present, parse_receipt, read_receipt, receipt_name

CHECKSUMS = "CHECKSUMS"

_CAUSES = {
    errno.ENOSPC: "The disk is full.",
    errno.EDQUOT: "Your quota is used up.",
    errno.EFBIG: "The file size limit is reached (ulimit -f).",
    errno.EROFS: "The file system is read-only.",
    errno.EACCES: "You may not write there.",
    errno.EPERM: "You may not write there.",
    errno.ESTALE: "The network share went away.",
    errno.EIO: "The device or network share reports an I/O error.",
}


def is_sealed(path: Path) -> bool:
    """Whether the store is complete: its list of checksums is there."""
    return (path / CHECKSUMS).is_file()


class Work:
    """The work folder of one unsealed store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path / WORK
        self.claims = self.folder / "claims"
        self.tmp = self.folder / "tmp"
        self._done: dict[int, Receipt] = {}

    def create(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Make the folder and publish the plan; returns the plan that counts, another process's if it was first."""
        # The work folder first: it is what marks a folder as an unfinished store.
        for folder in (self.claims, self.tmp, self.path / "receipts"):
            make_dirs(folder)
        final = self.folder / "plan.json"
        temporary = self.tmp / f"plan-{os.getpid()}-{os.urandom(4).hex()}"
        try:
            write_synced(temporary, pretty(dict(plan)))
            try:
                os.link(temporary, final)  # unlike rename, never replaces what another process published
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                if not final.exists():
                    temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_dir(self.folder)
        return self.plan()

    def plan(self) -> dict[str, Any]:
        """The published plan.

        Raises:
            StoreDamaged: it is missing or malformed.
            StoreTooNew: a newer umecache began the store.
        """
        file = self.folder / "plan.json"
        plan = read_json(file)
        refuse_newer(self.path, plan, file)
        return plan

    def receipt(self, k: int, ids: list[Any], expected: list[str]) -> Receipt | None:
        """The receipt of shard k if it is valid, else None: the shard is to be done (again).

        Args:
            ids: the shard's first ids by the plan.
            expected: the shard's files.
        """
        if k in self._done:
            return self._done[k]
        if not (self.path / receipt_name(k)).exists():
            return None
        try:
            receipt = read_receipt(self.path, k)
            valid = receipt.shard == k and list(receipt.ids) == ids and files_present(self.path, receipt, expected)
        except StoreDamaged:
            return None
        if valid:
            self._done[k] = receipt
        return receipt if valid else None

    def exists(self) -> bool:
        """Whether a plan was published."""
        return (self.folder / "plan.json").is_file()

    def note_origin(self, origin: Any) -> None:
        """Remember that a run with other versions or settings than the first one's writes shards too."""
        data = canonical(origin)
        folder = self.folder / "origins"
        make_dirs(folder)
        final = folder / f"{hashlib.sha256(data).hexdigest()}.json"
        if not final.exists():
            replace_file(final, data, scratch=self.tmp)

    def other_origins(self) -> list[Any]:
        """What `note_origin` remembers, in a fixed order."""
        folder = self.folder / "origins"
        return [read_json(folder / name) for name in sorted(_listdir(folder))]

    def signed(self) -> list[int]:
        """Shards that have a receipt, valid or not; one listing."""
        names = [name for name in _listdir(self.path / "receipts") if name.endswith(".json")]
        return sorted(int(name[:-5]) for name in names if name[:-5].isdigit())

    def commit(self, files: Mapping[str, Path], receipt: Receipt) -> Receipt:
        """Publish a shard's synced temporary files, then its receipt.

        Args:
            files: final relative path -> temporary file.
            receipt: all but its `files`, which are measured here.
        """
        facts = tuple(
            FileFact(name, temporary.stat().st_size, sha256_file(temporary))
            for name, temporary in sorted(files.items())
        )
        folders = set()
        for name, temporary in files.items():
            final = self.path / name
            make_dirs(final.parent)
            share(temporary, final.parent)
            temporary.replace(final)
            folders.add(final.parent)
        for folder in sorted(folders):
            fsync_dir(folder)
        whole = replace(receipt, files=facts)
        data = whole.to_json()
        replace_file(self.path / receipt_name(receipt.shard), data, scratch=self.tmp)
        self._done[receipt.shard] = parse_receipt(data, self.path / receipt_name(receipt.shard))
        return whole

    def remove(self) -> None:
        """Drop the work folder of a sealed store; others may be doing the same."""
        # First out of the way in one step, so that no half-emptied folder is ever taken for work in progress.
        with suppress(OSError):  # gone already, or the store became read-only
            self.folder.replace(self.path / f"{WORK}-{os.getpid()}-{os.urandom(4).hex()}")
        for away in self.path.glob(f"{WORK}*"):
            shutil.rmtree(away, ignore_errors=True)


def _listdir(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return []


def checksums(files: Mapping[str, str]) -> bytes:
    """The text of CHECKSUMS: `sha256  path` lines sorted by path, as sha256sum writes and checks them."""
    return "".join(f"{files[name]}  {name}\n" for name in sorted(files)).encode()


@contextmanager
def telling(path: Path, doing: str, safe: Iterable[str]) -> Iterator[None]:
    """Turn a full disk or a lost share into one line that says what is safe and what to run next.

    Args:
        doing: what was being written: "shard 3 of 12".
        safe: sentences about what is finished; evaluated only on failure.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        cause = _CAUSES.get(error.errno, f"{error.strerror}.")
        raise StoreWriteFailed(
            f"Writing {doing} of {path} stopped. {cause}",
            why=" ".join(safe),
            next="Mend that, then run the same command again: it goes on from the finished shards.",
        ) from error
