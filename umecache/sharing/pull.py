"""Bring stores here: shard by shard, in parallel, resumable, checked, and visible only when whole.

    umecache store pull https://example.org/vit-1a2b3c4d vqa-v2/vit-1a2b3c4d --split val

Files arrive in `.NAME.pulling` beside the target; one rename makes the store.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from umecache.errors import UsageError
from umecache.home import dataset_stores
from umecache.reporting import Reporter, Silent
from umecache.sharing.fetch import JOBS, KEPT, PARTS, SMALL_FILES, Progress, Wanted, fetch_all, in_parallel
from umecache.sharing.listing import Listing, find_remote_stores, read_listing
from umecache.sharing.remotes import FolderRemote, Remote, open_remote
from umecache.sharing.remotes import read_small as read_object
from umecache.stores.claims import Claims
from umecache.stores.commit import CHECKSUMS, is_sealed, telling
from umecache.stores.errors import StoreDamaged, StoreMismatch, StoreWriteFailed
from umecache.stores.files import (
    MAX_JSON,
    WORK,
    fsync_dir,
    inside,
    make_dirs,
    parse_json,
    pretty,
    read_small,
    replace_file,
    size_of,
    walk,
)
from umecache.stores.manifest import MANIFEST, read_manifest

MANY = 10_000  # objects beside a store's own of which a listing may tell


@dataclass(frozen=True, slots=True)
class Moved:
    """One store's journey.

    Attributes:
        source, target: where from and where to.
        files, bytes: that moved, or would.
        there: bytes that were there already.
        records: ids in the store that results.
        fingerprint: its.
        subset: only some of the ids were asked for.
    """

    source: str
    target: str
    files: int
    bytes: int
    there: int
    records: int
    fingerprint: str
    subset: bool = False

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)


def pull(
    url: str,
    target: str | Path | None = None,
    *,
    splits: Sequence[str] | None = None,
    ids: Sequence[int] | Sequence[str] | None = None,
    dry_run: bool = False,
    jobs: int = JOBS,
    reporter: Reporter | None = None,
) -> list[Moved]:
    """Bring the store at `url`, or the stores below it, to `target`.

    Args:
        target: the folder that the store, or the folder of stores, becomes; None: where `fuse` looks for each of them.
        splits: only the stores of these; None: all that `stores.json` lists, or train, val and test.
        ids: only these; what results is a store of its own, of the same recipe, that says what it is a part of.
        dry_run: only say what would move.

    Raises:
        StoreMissing: nothing there; or not those splits.
        StoreDamaged: the other side lies or is damaged; nothing of it was kept.
        StoreMismatch: the target holds something else.
        RemoteFailed, StoreWriteFailed: the line or the disk gave out; run it again.
    """
    if jobs < 1:
        raise UsageError(f"--jobs is {jobs}; at least 1 is needed.")
    remote, reporter = open_remote(url), reporter or Silent()
    moved = []
    for name in find_remote_stores(remote, splits):
        place = usual_place(remote.below(name)) if target is None else Path(target) / name
        if ids is None:
            moved.append(pull_store(remote.below(name), place, dry_run=dry_run, jobs=jobs, reporter=reporter))
        else:
            from umecache.sharing.subset import pull_ids

            moved.append(pull_ids(remote.below(name), place, ids, dry_run=dry_run, jobs=jobs, reporter=reporter))
    return moved


def usual_place(remote: Remote) -> Path:
    """STORES/DATASET/MODEL-RECIPE8/SPLIT, as `extract` would have it; whatever the manifest says, below the home."""
    facts = parse_json(read_object(remote, MANIFEST, MAX_JSON), Path(MANIFEST))
    told = facts.get("dataset")
    dataset = told if isinstance(told, Mapping) else {}
    limit = dataset.get("limit")
    root = dataset_stores(_plain(dataset.get("name")), limit if type(limit) is int else None)
    return root / f"{_plain(facts.get('model'))}-{_plain(facts.get('recipe_hash'))[:8]}" / _plain(dataset.get("split"))


def _plain(value: object) -> str:
    """A name fit for a folder."""
    return re.sub(r"[^\w.-]+", "--", value if isinstance(value, str) else "").strip("-.")[:100] or "unknown"


def pull_store(remote: Remote, target: Path, *, dry_run: bool, jobs: int, reporter: Reporter) -> Moved:
    """One whole store; errors as `pull`."""
    if isinstance(remote, FolderRemote) and remote.folder.resolve() == target.resolve():
        raise UsageError(f"{target} is the source itself.", next="Name another folder.")
    with staged(target, dry_run=dry_run) as staging:
        listing = read_listing(remote, staging)
        if complete(target, listing):
            return moved(remote, target, listing, [], 0, sum(_sizes(listing.wanted(), target)))
        wanted = [each for each in listing.wanted() if each.name != MANIFEST]  # which came with the listing
        forget_others(staging, listing)
        there = _sizes(wanted, staging)
        missing = [each for each, size in zip(wanted, there, strict=True) if not size]
        if dry_run:
            sizes = _sizes_there(remote, missing, jobs)
            return moved(remote, target, listing, missing, sum(sizes), sum(there))
        total = sum(each.size or 0 for each in missing)  # of the shards; all else is small beside them
        check_room(target, total)
        begun = sum(file.stat().st_size for file in (staging / PARTS).glob("*"))
        with reporter.task(f"pull {target.name}", max(total - begun, 0) / 1e6, "MB") as task:
            progress = Progress(task, max(SMALL_FILES, sum(listing.sizes.values())))
            fetch_all(remote, wanted, staging, progress, jobs)
        publish(staging, target, listing, remote)
        return moved(remote, target, listing, missing, progress.bytes, sum(there))


def moved(remote: Remote, target: Path, listing: Listing, files: Sequence[Wanted], n: int, there: int) -> Moved:
    """The account of a whole store."""
    facts = listing.manifest
    if files:  # CHECKSUMS and the manifest came first
        n += len(listing.checksums) + len(pretty(facts))
    return Moved(
        remote.url, str(target), len(files) + 2 if files else 0, n, there, facts["records"], facts["fingerprint"]
    )


@contextmanager
def staged(target: Path, *, dry_run: bool) -> Iterator[Path]:
    """The folder where files arrive, this process's alone; kept for the next run unless it becomes the target.

    Raises:
        StoreMismatch: another process is at it.
    """
    staging = staging_of(target)
    if dry_run and not staging.exists():
        with TemporaryDirectory() as folder:
            yield Path(folder)
        return
    with telling(target, "the first files", ["Nothing was written yet."]):
        make_dirs(staging.absolute() / WORK / "claims")
    claims = Claims(staging / WORK / "claims")
    claim = claims.acquire("pull")
    if claim is None:
        raise StoreMismatch(
            f"Another process is pulling {target}.", why="It holds the claim.", next="Wait until it has finished."
        )
    try:
        yield staging
    finally:
        claims.release(claim)
        if is_sealed(target):
            shutil.rmtree(staging, ignore_errors=True)


def staging_of(target: Path) -> Path:
    """Beside the target, so that a rename suffices; hidden, so that nobody takes it for a store."""
    absolute = target.absolute()
    return absolute.parent / f".{absolute.name}.pulling"


def complete(target: Path, listing: Listing) -> bool:
    """Whether the target is this store already.

    Raises:
        StoreMismatch: it is something else.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    if is_sealed(target):
        if read_small(target / CHECKSUMS) == listing.checksums:
            for name, size in listing.sizes.items():
                if size_of(inside(target, name)) != size:
                    raise StoreDamaged(
                        f"{target}/{name} is missing or cut short.", next=f"umecache store verify {target}"
                    )
            return True
        same = read_manifest(target)["fingerprint"] == listing.manifest["fingerprint"]
        why = "It has the same features in other bytes." if same else "It holds other features."
    else:
        why = "It is being written." if (target / WORK).exists() else "It is no store."
    raise StoreMismatch(f"{target} is taken.", why=why, next=f"Name another folder, or remove it: rm -r {target}")


def forget_others(staging: Path, listing: Listing) -> None:
    """Drop what an earlier run brought, if the remote holds another version by now."""
    file = staging / CHECKSUMS
    if file.exists() and read_small(file) == listing.checksums:
        return
    for name in list(walk(staging)):
        if name not in (MANIFEST, CHECKSUMS):
            (staging / name).unlink()
    shutil.rmtree(staging / PARTS, ignore_errors=True)
    replace_file(file, listing.checksums, scratch=staging / WORK)


def _sizes(wanted: Sequence[Wanted], folder: Path) -> list[int]:
    return [size_of(inside(folder, each.name)) or 0 for each in wanted]


def _sizes_there(remote: Remote, wanted: Sequence[Wanted], jobs: int) -> list[int]:
    """Bytes of each: declared, or as the remote says."""
    listed = remote.sizes(2 * len(wanted) + MANY) or {}

    def size(each: Wanted) -> int:
        told = listed.get(each.name) if each.name in listed else remote.size(each.name)
        return (told or 0) if each.size is None else each.size

    return in_parallel([partial(size, each) for each in wanted], Progress(Silent().task("", None)), jobs)


def check_room(target: Path, total: float) -> None:
    """Refuse what the disk can't hold, before the first byte.

    Raises:
        StoreWriteFailed: too little is free.
    """
    free = shutil.disk_usage(staging_of(target).parent).free
    if total > free:
        raise StoreWriteFailed(
            f"{target} needs {total / 1e6:,.1f} MB; {free / 1e6:,.1f} MB are free there.",
            next="Make room, name another disk, or ask for less: --split val, --ids FILE.",
        )


def publish(staging: Path, target: Path, listing: Listing, remote: Remote) -> None:
    """Seal what has arrived and give it its name in one step."""
    with telling(target, "the last step", [KEPT]):
        if isinstance(remote, FolderRemote):  # a store was created when its manifest was last modified
            status = (remote.folder / MANIFEST).stat()
            os.utime(staging / MANIFEST, ns=(status.st_atime_ns, status.st_mtime_ns))
        shutil.rmtree(staging / PARTS, ignore_errors=True)
        work = staging.parent / f"{staging.name}-{os.getpid()}"
        (staging / WORK).replace(work)
        try:
            staging.replace(target)
        except OSError:
            work.replace(staging / WORK)
            raise
        shutil.rmtree(work, ignore_errors=True)
        fsync_dir(target.absolute().parent)
