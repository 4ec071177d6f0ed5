"""What TAB offers: methods, encoders, data sets, splits, stores, runs. A directory listing at most; no torch, no numpy.

    umecache --install-completion          # once; bash, zsh, fish
    umecache fuse --method <TAB>
    umecache fuse --data daquar --text <TAB>

A completer offers nothing where it knows nothing, and the shell then offers files. It never complains: a line that is
half typed has no mistakes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from umecache.errors import UmecacheError
from umecache.home import dataset_stores, find_data, homes, stores_homes

Offer = list[tuple[str, str]]
"""Words with what is known of them; zsh and fish show both."""

DEFAULT_DATA = "vqa-v2"
SPLITS = ("train", "val", "test-dev", "test")  # where no data folder says better
STORE_MARKS = ("CHECKSUMS", ".writing")  # finished, unfinished
RUN_MARKS = ("run.json", "compare.json", "sweep.json")
DEPTH = 5  # folders below a home's stores/ or runs/


def method(incomplete: str) -> Offer:
    """One fusion method."""
    return _matching(_methods(), incomplete)


def methods(incomplete: str) -> Offer:
    """Fusion methods, comma-separated."""
    return _listed(_methods(), incomplete)


def model(incomplete: str) -> Offer:
    """One encoder."""
    from umecache.encoders.registry import MODELS, offered_models

    known = {name: f"{entry.modality}, {entry.tokens}" for name, entry in MODELS.items()}
    return _matching({**known, **dict.fromkeys(offered_models(), "from an installed package")}, incomplete)


def data(incomplete: str) -> Offer:
    """Data sets by name, of every home."""
    found = [folder.name for home in homes() for folder in _folders(home / "data")]
    return _matching(dict.fromkeys([*found, DEFAULT_DATA], ""), incomplete)


def splits(ctx: typer.Context, incomplete: str) -> Offer:
    """Splits of the data that the line names, comma-separated."""
    return _listed(dict.fromkeys(_data_of(ctx)[1], ""), incomplete)


def text_store(ctx: typer.Context, incomplete: str) -> Offer:
    """Text stores of the data that the line names, as `--text` takes them."""
    return _matching(_stores_of(ctx, "text"), incomplete)


def image_store(ctx: typer.Context, incomplete: str) -> Offer:
    """Image stores of the data that the line names, as `--image` takes them."""
    return _matching(_stores_of(ctx, "image"), incomplete)


def store(incomplete: str) -> Offer:
    """Stores by their path below UMECACHE_HOME/stores."""
    found = [path for home in stores_homes() for path in _marked(home, STORE_MARKS, incomplete)]
    return _matching(dict.fromkeys(found, ""), incomplete)


def stores(incomplete: str) -> Offer:
    """Stores, and the folders that hold all splits of one encoder."""
    found = [name for name, _ in store("")]
    above = [name.rpartition("/")[0] for name in found]
    return _matching(dict.fromkeys([*filter(None, above), *found], ""), incomplete)


def run(incomplete: str) -> Offer:
    """Runs and comparisons of every home, by their whole path; `~` is understood."""
    found: list[str] = []
    for home in homes():
        root = home.absolute() / "runs"
        typed = str(Path(incomplete).expanduser()) if incomplete.startswith("~") else incomplete
        below = typed.removeprefix(f"{root}/") if typed.startswith(f"{root}/") else ""
        for path in _marked(root, RUN_MARKS, below):
            whole = f"{root}/{path}"
            if whole.startswith(typed):
                found.append(incomplete + whole.removeprefix(typed))
    return [(path, "") for path in dict.fromkeys(found)]


def recipe(incomplete: str) -> Offer:
    """The recipes that come with umecache."""
    folder = Path(__file__).parents[1] / "training" / "recipes"
    return _matching({path.stem: "" for path in sorted(folder.glob("*.toml"))}, incomplete)


def _methods() -> dict[str, str]:
    from umecache.fusion.registry import METHODS, offered_methods

    known = {name: entry.summary for name, entry in METHODS.items()}
    return {**known, **dict.fromkeys(offered_methods(), "from an installed package")}


def _matching(known: Mapping[str, str], incomplete: str) -> Offer:
    return [(name, told) for name, told in known.items() if name.startswith(incomplete)]


def _listed(known: Mapping[str, str], incomplete: str) -> Offer:
    """The last name of a comma-separated list; those before it are not offered again."""
    before, comma, last = incomplete.rpartition(",")
    rest = {name: told for name, told in known.items() if name not in before.split(",")}
    return [(before + comma + name, told) for name, told in _matching(rest, last)]


def _data_of(ctx: typer.Context) -> tuple[str, tuple[str, ...]]:
    """Name and splits of the data that a line names; where they can't be known, what is usual."""
    from umecache.data.layout import find_splits, read_toml

    said = str(ctx.params.get("data") or DEFAULT_DATA)
    path = Path(said).expanduser()
    path = path if path.exists() else find_data(said)
    try:
        name, found = read_toml(path) if path.suffix == ".toml" else find_splits(path.absolute())
    except UmecacheError:
        return path.name, SPLITS
    return name, tuple(found)


def _stores_of(ctx: typer.Context, modality: str) -> dict[str, str]:
    """Model names, or folder names where a model has several stores."""
    name, limit = _data_of(ctx)[0], ctx.params.get("limit")
    found: dict[str, str] = {}  # folder name -> model name as `--text` takes it
    for below in stores_homes():
        for folder in _folders(dataset_stores(name, limit, below=below)):
            if _modality(folder) == modality:
                found[folder.name] = folder.name.rpartition("-")[0]
    models = list(found.values())
    return {(short if models.count(short) == 1 else whole): whole for whole, short in found.items()}


def _modality(folder: Path) -> str | None:
    """What a model's stores hold, from the first manifest in it."""
    for inside in (folder, *_folders(folder)):
        for file, at in (("manifest.json", ()), (".writing/plan.json", ("facts",))):
            try:
                facts: Any = json.loads((inside / file).read_text("utf-8"))
                for key in at:
                    facts = facts[key]
                return str(facts["modality"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
    return None


def _folders(folder: Path) -> list[Path]:
    """Its folders, hidden ones left out; none where it can't be read."""
    try:
        return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    except OSError:
        return []


def _marked(root: Path, marks: Iterable[str], incomplete: str) -> Iterator[str]:
    """Paths below `root` of the folders that hold one of `marks`; only what `incomplete` can become is looked at."""
    marks = tuple(marks)

    def look(folder: Path, depth: int) -> Iterator[str]:
        for each in _folders(folder):
            path = each.relative_to(root).as_posix()
            if not (path.startswith(incomplete) or incomplete.startswith(f"{path}/")):
                continue
            marked = any((each / mark).exists() for mark in marks)
            if marked:
                yield path
            if depth > 1 and (not marked or (each / "compare.json").exists()):  # a comparison holds its runs
                yield from look(each, depth - 1)

    yield from look(root, DEPTH)
