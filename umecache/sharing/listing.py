"""What a remote store consists of, by its own CHECKSUMS and manifest, checked before anything else is asked for.

    listing = read_listing(remote, staging)
    listing.wanted()          # every file but CHECKSUMS, with its sha256 and, for shards, its size

A folder of several stores has `stores.json` beside them, which only says where to look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umecache.errors import UsageError
from umecache.sharing.fetch import Wanted
from umecache.sharing.remotes import FolderRemote, Remote, RemoteMissing, read_small, speaking
from umecache.stores.catalog import find_stores
from umecache.stores.commit import CHECKSUMS
from umecache.stores.errors import StoreDamaged, StoreMissing
from umecache.stores.files import MAX_JSON, WORK, inside, make_dirs, parse_json, replace_file, sha256_file, size_of
from umecache.stores.manifest import MANIFEST, read_manifest, rows_of, take
from umecache.stores.receipts import receipt_name

INDEX = "stores.json"
USUAL = ("train", "val", "test")  # splits that are tried where nothing tells


@dataclass(frozen=True)
class Listing:
    """A store's files.

    Attributes:
        manifest: checked.
        checksums: CHECKSUMS itself.
        sums: path -> hex sha256.
        sizes: path -> bytes, of the shards' files.
    """

    manifest: Mapping[str, Any]
    checksums: bytes
    sums: Mapping[str, str]
    sizes: Mapping[str, int]

    def wanted(self, names: Sequence[str] | None = None) -> list[Wanted]:
        """What is to arrive, the small files first; None: everything but CHECKSUMS."""
        chosen = self.sums if names is None else names
        found = [Wanted(name, self.sums[name], self.sizes.get(name)) for name in chosen]
        return sorted(found, key=lambda each: (each.size is not None, each.name))

    def small(self) -> list[str]:
        """Files that are no shards' and no receipts: manifest, index, encoder files."""
        return [name for name in self.sums if name not in self.sizes and not name.startswith("receipts/")]

    def shard(self, k: int) -> list[str]:
        """Paths of shard k's files."""
        return [part["path"] for part in self.manifest["layout"]["shards"][k]["files"]]

    @property
    def split(self) -> str | None:
        """The split that the manifest names."""
        told = self.manifest.get("dataset")
        name = told.get("split") if isinstance(told, Mapping) else None
        return name if isinstance(name, str) else None


def read_checksums(remote: Remote) -> bytes:
    """CHECKSUMS, which says what the store is now.

    Raises:
        StoreMissing: no finished store is there.
    """
    try:
        return read_small(remote, CHECKSUMS, MAX_JSON)
    except RemoteMissing as error:
        raise StoreMissing(
            f"No finished store at {remote.url}.",
            why="It has no CHECKSUMS, which is written last.",
            next="Wait until it was pushed whole, or name the folder of the store itself.",
        ) from error


def read_listing(remote: Remote, staging: Path, checksums: bytes | None = None) -> Listing:
    """Read and check CHECKSUMS and the manifest, which is left in `staging`.

    Args:
        checksums: CHECKSUMS, where it was read already.

    Raises:
        StoreMissing: no finished store is there.
        StoreDamaged: the two contradict each other, or name something outside the store.
    """
    checksums = read_checksums(remote) if checksums is None else checksums
    sums = parse_checksums(checksums, staging, remote.url)
    here = inside(staging, MANIFEST)
    if size_of(here) is None or sha256_file(here) != sums.get(MANIFEST):
        data = read_small(remote, MANIFEST, MAX_JSON)
        if hashlib.sha256(data).hexdigest() != sums.get(MANIFEST):
            raise StoreDamaged(
                f"{remote.url}/{MANIFEST} is not what CHECKSUMS lists.", next="Pull again; or push it again."
            )
        make_dirs(staging / WORK)
        replace_file(here, data, scratch=staging / WORK)
    manifest = read_manifest(staging)
    sizes: dict[str, int] = {}
    for k, shard in enumerate(manifest["layout"]["shards"]):
        for part in shard["files"]:
            if part["path"] not in sums or part["path"] in sizes or receipt_name(k) not in sums:
                raise StoreDamaged(f"{remote.url}: the manifest's shard {k} is not what CHECKSUMS lists.")
            sizes[part["path"]] = part["bytes"]
    return Listing(manifest, checksums, sums, sizes)


def parse_checksums(data: bytes, root: Path, url: str) -> dict[str, str]:
    """Path -> hex sha256, every path sure to lie inside `root`.

    Raises:
        StoreDamaged: anything else than such lines.
    """
    sums: dict[str, str] = {}
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise StoreDamaged(f"{url}/{CHECKSUMS} is no text.") from error
    if lines.pop():
        raise StoreDamaged(f"{url}/{CHECKSUMS} is cut short.")
    for line in lines:
        digest, separator, name = line.partition("  ")
        if not separator or len(digest) != 64 or set(digest) - set("0123456789abcdef") or name in sums:
            raise StoreDamaged(f"{url}/{CHECKSUMS} has a line that is none: {line!r:.80}.")
        if name.startswith(WORK) or name == CHECKSUMS:
            raise StoreDamaged(f"{url}/{CHECKSUMS} lists {name!r}, which is no file of a store.")
        inside(root, name)
        sums[name] = digest
    return sums


def find_remote_stores(remote: Remote, splits: Sequence[str] | None) -> list[str]:
    """Where the stores lie below a remote, as relative paths; "" is the remote itself.

    Raises:
        StoreMissing: none, or not the splits asked for.
        UsageError: a single store of another split.
    """
    if isinstance(remote, FolderRemote):
        root = remote.folder
        with speaking(remote.url):
            (root / CHECKSUMS).is_file()  # what may not be looked into is not nothing
        found = [path.relative_to(root).as_posix() for path in find_stores(root) if (path / CHECKSUMS).is_file()]
        names = {"" if name == "." else name: _split_of(root / name) for name in found}
    elif has(remote, CHECKSUMS):
        manifest = parse_json(read_small(remote, MANIFEST, MAX_JSON), Path(MANIFEST))
        names = {"": _told_split(manifest)}
    else:
        names = _indexed(remote) or {name: name for name in splits or USUAL if has(remote.below(name), CHECKSUMS)}
    chosen = [name for name, split in names.items() if not splits or split in splits or name.split("/")[-1] in splits]
    if "" in names and not chosen:
        raise UsageError(f"{remote.url} is a store of the split {names['']!r}.", next="Leave out --split.")
    lacking = [each for each in splits or () if not any(each in (names[n], n.split("/")[-1]) for n in chosen)]
    if not chosen or lacking:
        if isinstance(remote, FolderRemote) and (remote.folder / WORK).exists():
            raise StoreMissing(
                f"No finished store at {remote.url}.",
                why="It is still being written.",
                next="Wait until `umecache extract` has finished, or run that again.",
            )
        raise StoreMissing(
            f"No finished store{f' of the split {lacking[0]!r}' if lacking else ''} at {remote.url}.",
            why=f"It has: {', '.join(names)}." if names else "It has no CHECKSUMS, stores.json or folder of a split.",
            next="Name the folder of a store, or of its splits.",
        )
    return chosen


def has(remote: Remote, name: str) -> bool:
    """Whether a remote has an object."""
    try:
        next(iter(remote.stream(name, 0, 1)), b"")
    except RemoteMissing:
        return False
    return True


def _indexed(remote: Remote) -> dict[str, str | None]:
    """What `stores.json` says; nothing where there is none."""
    try:
        data = read_small(remote, INDEX, MAX_JSON)
    except RemoteMissing:
        return {}
    file = Path(INDEX)
    names = {}
    for row in rows_of(parse_json(data, file), "stores", file):
        path = take(row, "path", str, file)
        inside(Path("/nowhere"), path)
        names[path] = row.get("split") if isinstance(row.get("split"), str) else None
    return names


def _told_split(manifest: Mapping[str, Any]) -> str | None:
    told = manifest.get("dataset")
    return told.get("split") if isinstance(told, Mapping) and isinstance(told.get("split"), str) else None


def _split_of(path: Path) -> str | None:
    try:
        return _told_split(read_manifest(path))
    except StoreDamaged:  # whoever copies it will say so
        return None
