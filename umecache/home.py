"""Where things live when no path is said: `UMECACHE_HOME`, by default `~/.cache/umecache`.

    UMECACHE_HOME=~/ume:/lab/ume      # several homes, in order: one's own disk, then the lab's share

Reading looks through all of them, the first that has it wins; writing goes to the first that may be written.
"""

from __future__ import annotations

import os
from pathlib import Path

from umecache.errors import UsageError

_NEWEST = 3  # runs named in an error


def homes() -> tuple[Path, ...]:
    """Every home in its order; none is created here."""
    named = [Path(part).expanduser() for part in os.environ.get("UMECACHE_HOME", "").split(os.pathsep) if part]
    return tuple(dict.fromkeys(named)) or (Path.home() / ".cache" / "umecache",)


def home() -> Path:
    """The home for writing, which holds `data/`, `stores/` and `runs/`: the first that may be written, or made."""
    every = homes()
    return next((each for each in every if _writable(each)), every[0])


def _writable(folder: Path) -> bool:
    at = folder.absolute()
    while not at.exists() and at != at.parent:
        at = at.parent
    return at.is_dir() and os.access(at, os.W_OK | os.X_OK)


def data_home() -> Path:
    """Downloaded data sets, one folder each."""
    return home() / "data"


def stores_home() -> Path:
    """Feature stores: `DATASET/MODEL-RECIPE8/SPLIT`."""
    return home() / "stores"


def stores_homes() -> tuple[Path, ...]:
    """Where stores are looked for."""
    return tuple(each / "stores" for each in homes())


def cache_home() -> Path:
    """Where what is read from afar is kept: `UMECACHE_CACHE`, by default `cache/` in the home for writing."""
    said = os.environ.get("UMECACHE_CACHE")
    return Path(said).expanduser() if said else home() / "cache"


def runs_home() -> Path:
    """Trained fusion runs."""
    return home() / "runs"


def find_run(ref: str | Path) -> Path:
    """The folder of a run or comparison: as it is, or by its path below `runs/` of a home.

    Raises:
        UsageError: there is none.
    """
    roots = [each / "runs" for each in homes()]
    for path in (Path(ref).expanduser(), *(root / ref for root in roots)):
        if path.exists():
            return path
    runs = [path for root in roots for path in root.glob("*/*") if not path.name.startswith(".")]
    runs.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    newest = ", ".join("/".join(path.parts[-2:]) for path in runs[:_NEWEST])
    raise UsageError(
        f"There is no run {ref}.",
        why=f"Nor is one below {' or '.join(map(str, roots))}." + (f" The newest there: {newest}." if newest else ""),
        next="name one of them" if newest else "umecache fuse makes one",
    )


def find_data(name: str) -> Path:
    """The data folder of that name in the first home that has it; else where it would be."""
    return next((each / "data" / name for each in homes() if (each / "data" / name).exists()), data_home() / name)


def dataset_stores(dataset: str, limit: int | None = None, *, below: Path | None = None) -> Path:
    """The stores of one data set; those of its first `limit` questions are kept apart from those of the whole.

    Args:
        below: one of `stores_homes`; None: the one for writing.
    """
    return (below or stores_home()) / (dataset if limit is None else f"{dataset}-first{limit}")
