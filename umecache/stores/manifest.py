"""The store's own account of itself: `manifest.json`, versioned, for people and programs.

    facts = read_manifest(path)      # checked field by field: nothing in it is trusted
    facts["model"], facts["recipe"], facts["origin"], facts["failures"]

`build_manifest` says what is in it. Creation time is not: two runs of one command give the same bytes, so the time is
that of the file itself (its modification time, which tar, rsync -a and cp -p keep); `created` tells it.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from umecache.stores.dtypes import DECODE, DTYPES, stored_dtype
from umecache.stores.errors import StoreDamaged, StoreError, StoreTooNew
from umecache.stores.files import inside, read_json
from umecache.stores.formats import is_format, known_formats
from umecache.stores.plan import Plan

FORMAT_VERSION = 1
"""Of what is written. Every version up to it stays readable; tests/stores/versions holds stores of each."""

MANIFEST = "manifest.json"
COMPRESSIONS = (None, "zstd", "gzip")

COMPUTED = frozenset(
    {
        "format_version",
        "umecache_version",
        "fingerprint",
        "recipe_hash",
        "records",
        "distinct",
        "tokens",
        "dim",
        "dtype",
    }
    | {"stored_dtype", "decode", "outlier_tokens", "id_type", "failures", "format", "compression", "layout"}
)
"""Fields that follow from the plan and the receipts; all others are facts that the caller gave."""

_LIMIT = 1 << 62  # counts beyond this can't be meant
T = TypeVar("T")


def build_manifest(
    facts: Mapping[str, Any],
    plan: Plan,
    *,
    format: str,
    dtype: str,
    compression: str | None,
    fingerprint: str,
    recipe_hash: str,
    failures: Sequence[Mapping[str, Any]],
    shards: Sequence[Mapping[str, Any]],
    outliers: int,
) -> dict[str, Any]:
    """All facts of a finished store, in the order in which a person wants to read them.

    Args:
        facts: `model`, `modality`, `dataset`, `grid`, `recipe` (hashed) and `origin` (reported); other keys are kept.
        failures: `id`, `reason`, `sha256` (of the file, or None) and `tokens` (planned rows) of each failed input.
        shards: `records`, `rows`, and `files`: `path` and `bytes` of each.
        outliers: tokens that int8 keeps exactly.
    """
    told = {key: facts.get(key) for key in ("model", "modality", "dataset", "grid", "recipe", "origin")}
    rest = {key: value for key, value in facts.items() if key not in told and key not in COMPUTED}
    return {
        "format_version": FORMAT_VERSION,
        "umecache_version": facts.get("umecache_version") or _version(),
        "fingerprint": fingerprint,
        "recipe_hash": recipe_hash,
        **told,
        **rest,
        "records": len(plan.ids),
        "distinct": len(plan.first),
        "tokens": plan.tokens,
        "dim": plan.dim,
        "dtype": dtype,
        "stored_dtype": stored_dtype(dtype).name,
        "decode": DECODE[dtype],
        "outlier_tokens": outliers,
        "id_type": "string" if isinstance(plan.ids, list) else "int64",
        "failures": list(failures),
        "format": format,
        "compression": compression,
        "layout": {
            "capacity": plan.capacity,
            "shard_rows": plan.shard_rows,
            "chunk_rows": plan.chunk_rows,
            "shards": list(shards),
        },
    }


def given(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that `build_manifest` was given, so that a converted or repaired store tells the same."""
    facts = {key: value for key, value in manifest.items() if key not in COMPUTED}
    return {**facts, "umecache_version": manifest.get("umecache_version")}


def _version() -> str:
    try:
        return importlib.metadata.version("umecache")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "unknown"


def read_manifest(path: Path) -> dict[str, Any]:
    """The checked manifest of the store at `path`.

    Raises:
        StoreDamaged: it is missing or malformed.
        StoreTooNew: a newer umecache wrote it.
    """
    file = inside(path, MANIFEST)
    manifest = read_json(file)
    refuse_newer(path, manifest, file)
    for key in ("fingerprint", "recipe_hash"):
        value = take(manifest, key, str, file)
        if len(value) != 64 or set(value) - set("0123456789abcdef"):
            raise _wrong(file, key, value)
    one_of(manifest, "dtype", DTYPES, file)
    if not is_format(name := take(manifest, "format", str, file)):
        if not name.isidentifier() or len(name) > 60:  # what no package could be asked for
            raise _wrong(file, "format", name)
        raise StoreError(
            f"{path} has the format {name!r}, which nothing here can read.",
            why=f"Known: {', '.join(known_formats())}.",
            next="install the package that offers it",
        )
    one_of(manifest, "compression", COMPRESSIONS, file)
    one_of(manifest, "id_type", ("int64", "string"), file)
    for key in ("records", "distinct", "tokens", "outlier_tokens"):
        count(manifest, key, file)
    count(manifest, "dim", file, least=1)
    take(manifest, "recipe", dict, file)
    for failure in rows_of(manifest, "failures", file):
        if type(failure.get("id")) not in (int, str):
            raise _wrong(file, "failures", failure)
        take(failure, "reason", str, file)
        count(failure, "tokens", file)
    layout = take(manifest, "layout", dict, file)
    rows, chunk = count(layout, "shard_rows", file, least=1), count(layout, "chunk_rows", file, least=1)
    shards = rows_of(layout, "shards", file)
    if rows % chunk or count(layout, "capacity", file) != rows * len(shards):
        raise _wrong(file, "layout", {"shard_rows": rows, "chunk_rows": chunk, "capacity": layout["capacity"]})
    for shard in shards:
        count(shard, "records", file, least=1)
        if not 1 <= count(shard, "rows", file) <= rows:
            raise _wrong(file, "rows", shard["rows"])
        for part in rows_of(shard, "files", file):
            take(part, "path", str, file)
            count(part, "bytes", file)
    return manifest


def refuse_newer(path: Path, document: Mapping[str, Any], file: Path) -> None:
    """Raise StoreTooNew for a document of a format after ours, StoreDamaged for one of a format that never was."""
    version = count(document, "format_version", file, least=1)
    if version > FORMAT_VERSION:
        raise StoreTooNew(
            f"{path} has store format {version}; this umecache reads formats up to {FORMAT_VERSION}.",
            why="A newer umecache wrote it.",
            next="pip install --upgrade umecache",
        )


def take(document: Mapping[str, Any], key: str, kind: type[T], file: Path) -> T:
    """A field of the right type, or StoreDamaged."""
    value = document.get(key)
    if type(value) is not kind:  # bool is an int to isinstance
        raise _wrong(file, key, value)
    return value


def count(document: Mapping[str, Any], key: str, file: Path, least: int = 0) -> int:
    """A field that counts something, or StoreDamaged."""
    value = take(document, key, int, file)
    if not least <= value < _LIMIT:
        raise _wrong(file, key, value)
    return value


def one_of(document: Mapping[str, Any], key: str, allowed: Sequence[Any], file: Path) -> None:
    """Check a field that has few values, or StoreDamaged."""
    value = document.get(key)
    if not isinstance(value, str | None) or value not in allowed:
        raise _wrong(file, key, value)


def rows_of(document: Mapping[str, Any], key: str, file: Path) -> list[dict[str, Any]]:
    """A field that is a list of objects, or StoreDamaged."""
    value = take(document, key, list, file)
    for row in value:
        if type(row) is not dict:
            raise _wrong(file, key, row)
    return value


def _wrong(file: Path, key: str, value: Any) -> StoreDamaged:
    text = repr(value)
    return StoreDamaged(f"{file}: the field {key!r} can't be {text if len(text) < 60 else text[:57] + '...'}.")


def created(path: Path) -> str:
    """When the store was sealed, ISO 8601 in UTC."""
    return datetime.fromtimestamp((path / MANIFEST).stat().st_mtime, UTC).isoformat(timespec="seconds")
