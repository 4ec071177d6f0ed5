"""Who uses a store: the runs that were trained on it, and the processes that have it open now.

runs = runs_by_fingerprint([home / "runs" for home in homes()])
runs[store.fingerprint]      # run folders
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

DEPTH = 4  # folders below which no run is looked for: runs/DATASET/RUN is two
LARGEST = 1 << 26  # bytes of a run.json


def runs_by_fingerprint(roots: Iterable[Path]) -> dict[str, list[Path]]:
    """Run folders by the fingerprint of each store that they name; runs that can't be read name none."""
    found: dict[str, list[Path]] = {}
    for root in roots:
        for folder in _runs(root, DEPTH):
            for name in sorted(set(_fingerprints(_read(folder / "run.json")))):
                found.setdefault(name, []).append(folder)
    return found


def _runs(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "run.json").is_file():
        yield folder  # its seeds name the same stores
    elif depth:
        try:
            inner = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())
        except OSError:  # none there, or somebody else's
            return
        for entry in inner:
            yield from _runs(entry, depth - 1)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes()) if file.stat().st_size <= LARGEST else None
    except (OSError, ValueError, RecursionError):
        return None


def _fingerprints(document: Any) -> Iterator[str]:
    waiting = [document]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            name = each.get("fingerprint")
            if isinstance(name, str) and name:
                yield name
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


def readers(path: Path) -> list[int]:
    """Processes of this machine that have a file of the store open or mapped, as far as we may look."""
    inside = f"{path.resolve()}{os.sep}"
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone, or another user's
            maps = (process / "maps").read_text(errors="replace")
            if inside in maps or any(link.startswith(inside) for link in _links(process / "fd")):
                found.append(int(process.name))
    return found


def _links(folder: Path) -> Iterator[str]:
    for each in folder.iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            yield str(each.readlink())
