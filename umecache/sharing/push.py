"""Take stores elsewhere: only what is new, each shard before its receipt, CHECKSUMS last.

    umecache store push vqa-v2/vit-1a2b3c4d s3://bucket/vit-1a2b3c4d

To a folder this is a pull from here: one rename makes the store. Elsewhere a store without CHECKSUMS is not finished,
so nobody reads half of it; a receipt that is there says that its shard arrived, so a push that was killed goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from umecache.errors import UsageError
from umecache.reporting import Reporter, Silent
from umecache.sharing.card import CARD, MARK, card, index
from umecache.sharing.fetch import JOBS, Progress, in_parallel
from umecache.sharing.listing import INDEX, find_remote_stores, parse_checksums
from umecache.sharing.pull import MANY, Moved, pull_store
from umecache.sharing.remotes import FolderRemote, Remote, RemoteFailed, RemoteMissing, open_remote, read_small
from umecache.stores.commit import CHECKSUMS
from umecache.stores.errors import StoreDamaged, StoreError, StoreMismatch
from umecache.stores.files import MAX_JSON, inside, parse_json, pretty, replace_file, sha256_file, size_of
from umecache.stores.manifest import MANIFEST
from umecache.stores.reader import Store, open_store
from umecache.stores.receipts import receipt_name


def push(
    source: str | Path,
    url: str,
    *,
    splits: Sequence[str] | None = None,
    licence: str | None = None,
    dry_run: bool = False,
    jobs: int = JOBS,
    reporter: Reporter | None = None,
) -> list[Moved]:
    """Bring the store `source`, or the stores below it, to `url`, with a card.

    Args:
        splits: only the stores of these.
        licence: for the card; an SPDX name such as cc-by-4.0.
        dry_run: only say what would move.

    Raises:
        StoreMissing, StoreIncomplete, StoreDamaged: the source can't be pushed.
        StoreMismatch: another store is there.
        RemoteFailed, StoreWriteFailed: the line or the disk gave out; run it again.
    """
    reporter = reporter or Silent()
    if jobs < 1:
        raise UsageError(f"--jobs is {jobs}; at least 1 is needed.")
    remote = open_remote(url)
    here = FolderRemote(Path(source))
    stores = {name: open_store(here.folder / name) for name in find_remote_stores(here, splits)}
    moved = []
    for name, store in stores.items():
        if not store.fingerprint:
            raise StoreError(f"{store.path} has no manifest: a foreign store.", next="umecache store import FILES")
        if isinstance(remote, FolderRemote):
            place = remote.folder / name if name else remote.folder
            found = pull_store(FolderRemote(store.path), place, dry_run=dry_run, jobs=jobs, reporter=reporter)
        else:
            found = _push_store(store, remote.below(name), dry_run=dry_run, jobs=jobs, reporter=reporter)
        moved.append(found)
    if not dry_run:
        _introduce(remote, stores, licence)
    return moved


def _push_store(store: Store, remote: Remote, *, dry_run: bool, jobs: int, reporter: Reporter) -> Moved:
    """One store to something that is no folder; errors as `push`."""
    root = store.path
    checksums = (root / CHECKSUMS).read_bytes()
    sums = parse_checksums(checksums, root, str(root))
    sizes = {name: size_of(inside(root, name)) or 0 for name in sums}
    old = _other(store, remote, checksums)
    if old is None:
        return Moved(str(root), remote.url, 0, 0, sum(sizes.values()), len(store), store.fingerprint)
    shards = [[part["path"] for part in shard["files"]] for shard in store.manifest["layout"]["shards"]]
    listed = remote.sizes(MANY + 2 * len(sums))
    size = remote.size if listed is None else listed.get
    looks = [partial(_arrived, root, remote, k, shards[k], sums, sizes, old, size) for k in range(len(shards))]
    there = in_parallel(looks, Progress(Silent().task("", None)), jobs)
    groups = [[*files, receipt_name(k)] for k, files in enumerate(shards) if not there[k]]
    done = {name for k, files in enumerate(shards) if there[k] for name in (*files, receipt_name(k))}
    sent = {name for group in groups for name in group}
    rest = [name for name in sums if name not in sent and name not in done and old.get(name) != sums[name]]
    files = [*(name for group in groups for name in group), *rest]
    total = sum(sizes[name] for name in files) + len(checksums)
    account = Moved(
        str(root),
        remote.url,
        len(files) + 1,
        total,
        sum(sizes.values()) + len(checksums) - total,
        len(store),
        store.fingerprint,
    )
    if dry_run:
        return account
    if old:  # what is there stops being a store before the first byte of it changes
        remote.remove([CHECKSUMS])
    with reporter.task(f"push {root.name}", total / 1e6, "MB") as task:
        progress = Progress(task)
        parcels = _parcels([*groups, rest], sizes, remote.parcel)
        work = [partial(_send, root, remote, each, sums, sizes, progress) for each in parcels]
        in_parallel(work, progress, jobs if remote.parcel is None else 1)
        _check_sent(remote, files, sizes, jobs)
        remote.remove([name for name in old if name not in sums])
        remote.write({CHECKSUMS: checksums})
        progress.add(len(checksums))
    return account


def _parcels(groups: Sequence[Sequence[str]], sizes: Mapping[str, int], limit: int | None) -> list[list[str]]:
    """What goes in one write: a shard, or as many as make `limit` bytes."""
    parcels: list[list[str]] = []
    room = 0
    for group in groups:
        size = sum(sizes[name] for name in group)
        if limit is None or size > room:
            parcels.append([])
            room = limit or 0
        parcels[-1] += group
        room -= size
    return parcels


def _other(store: Store, remote: Remote, checksums: bytes) -> dict[str, str] | None:
    """The files listed there already, by their sha256; None: the very same store is there.

    Raises:
        StoreMismatch: another store is there.
    """
    try:
        found = read_small(remote, CHECKSUMS, MAX_JSON)
    except RemoteMissing:
        return {}
    if found == checksums:
        return None
    manifest = parse_json(read_small(remote, MANIFEST, MAX_JSON), Path(MANIFEST))
    if manifest.get("fingerprint") != store.fingerprint:
        raise StoreMismatch(
            f"Another store is at {remote.url}.", why="Its fingerprint differs.", next="Name another place."
        )
    return parse_checksums(found, store.path, remote.url)


def _arrived(
    root: Path,
    remote: Remote,
    k: int,
    files: Sequence[str],
    sums: Mapping[str, str],
    sizes: Mapping[str, int],
    old: Mapping[str, str],
    size: Callable[[str], int | None],
) -> bool:
    """Whether shard k is there: its files have their sizes, and the old CHECKSUMS names them or its receipt is there.

    Args:
        size: bytes that an object has there.
    """
    receipt = receipt_name(k)
    if not all(size(name) == sizes[name] for name in (receipt, *files)):
        return False
    if not all(old.get(name) == sums[name] for name in (*files, receipt)):
        try:
            data = read_small(remote, receipt, sizes[receipt])
        except (RemoteMissing, RemoteFailed):
            return False
        return data == inside(root, receipt).read_bytes()
    return True


def _send(
    root: Path,
    remote: Remote,
    names: Sequence[str],
    sums: Mapping[str, str],
    sizes: Mapping[str, int],
    progress: Progress,
) -> None:
    """Send files in their order, the receipt of a shard last; damage is not spread."""
    if progress.stop.is_set():
        return
    for name in names:
        if sha256_file(inside(root, name)) != sums[name]:
            raise StoreDamaged(
                f"{root / name} is not what CHECKSUMS lists; it was not sent.", next=f"umecache store repair {root}"
            )
    remote.write({name: inside(root, name) for name in names})
    for name in names:
        progress.add(sizes[name])


def _check_sent(remote: Remote, names: Sequence[str], sizes: Mapping[str, int], jobs: int) -> None:
    """Whether what was sent has its size there: by one listing, and by asking for what that names otherwise."""
    listed = remote.sizes(MANY + 2 * len(sizes)) or {}
    doubtful = [name for name in names if listed.get(name) != sizes[name]]
    asked = in_parallel([partial(remote.size, name) for name in doubtful], Progress(Silent().task("", None)), jobs)
    for name, size in zip(doubtful, asked, strict=True):
        if size != sizes[name]:
            raise RemoteFailed(
                f"{remote.url}/{name} has {size or 0:,} bytes after sending {sizes[name]:,}.", next="Push again."
            )


def _introduce(remote: Remote, stores: Mapping[str, Store], licence: str | None) -> None:
    """Put the card there and, beside several stores, the list of them; a card that somebody edited stays."""
    files: dict[str, Path | bytes] = {}
    listed: dict[str, dict[str, Any]] = {}
    if "" not in stores:
        listed = {row["path"]: row for row in _rows(remote)} | {row["path"]: row for row in index(stores)}
        files[INDEX] = pretty({"format_version": 1, "stores": [listed[path] for path in sorted(listed)]})
    try:
        before = read_small(remote, CARD, MAX_JSON)
    except RemoteMissing:
        before = MARK.encode()
    text = card(stores, url=remote.url, licence=licence).encode()
    if MARK.encode() in before and text != before:
        files[CARD] = text
    if isinstance(remote, FolderRemote):
        for name, data in files.items():
            assert isinstance(data, bytes)
            replace_file(remote.folder / name, data, scratch=remote.folder)
    else:
        remote.write(files)


def _rows(remote: Remote) -> list[dict[str, Any]]:
    try:
        found = parse_json(read_small(remote, INDEX, MAX_JSON), Path(INDEX)).get("stores")
    except (RemoteMissing, StoreDamaged):
        return []
    rows = found if isinstance(found, list) else []
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("path"), str)]
