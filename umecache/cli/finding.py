"""Which store a command line means, and how sizes are said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from umecache.cli import completing
from umecache.errors import UsageError
from umecache.home import stores_homes

StoreArgument = Annotated[
    str,
    typer.Argument(
        metavar="STORE",
        help="A store's folder, or its path below UMECACHE_HOME/stores.",
        autocompletion=completing.store,
    ),
]


def find_store(ref: str) -> Path:
    """The store that the user means: a folder, a path below the stores' home, or the only store in either.

    Raises:
        UsageError: there is none, or there are several.
    """
    from umecache.stores.catalog import find_stores

    path = find_folder(ref)
    if path.is_file() or any(
        (path / name).exists() for name in ("manifest.json", "zarr.json", "index.h5", "CHECKSUMS")
    ):
        return path
    inside = list(find_stores(path))
    if len(inside) > 1:
        named = ", ".join(str(found) for found in inside[:5])
        raise UsageError(f"{path} holds {len(inside)} stores.", why=f"They are {named}.", next="Name one of them.")
    return inside[0] if inside else path


def find_folder(ref: str) -> Path:
    """The folder that the user means: as it is, or below the stores' home; may hold one store or many.

    Raises:
        UsageError: there is none, or it may not be read.
    """
    for path in (Path(ref).expanduser(), *(below / ref for below in stores_homes())):
        if _there(path):
            return path
    looked = " or ".join(map(str, stores_homes()))
    raise UsageError(f"There is no store {ref}.", why=f"Nor is one below {looked}.", next="umecache store ls")


def _there(path: Path) -> bool:
    """Whether something is there that may be looked at.

    Raises:
        UsageError: it may not.
    """
    try:
        if not path.exists():
            return False
        if os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
            return True
    except PermissionError:  # of a folder above it
        pass
    raise UsageError(f"You may not read {path}.", next=f"ask its owner: chmod -R g+rX {path}")


def size_words(size: float | None) -> str:
    """Bytes in the unit that people read."""
    if size is None:
        return "?"
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
