"""Find the stores that a run reads, and refuse those that don't fit its questions.

    sources = find_sources(dataset, train, evaluation, text="minilm", image=None, features={})

A store is named by its folder or URL (with one store per split inside, or one store for all), or by its model's short
name under UMECACHE_HOME/stores/DATASET; with nothing said, the one store of that modality is taken. Where there are
several the error lists them: a choice such as "the newest" would change results behind people's backs on a shared disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from umecache.data.dataset import Dataset, Split
from umecache.encoders.registry import MODELS
from umecache.errors import UmecacheError, UsageError
from umecache.fusion.naming import modality_of
from umecache.home import dataset_stores, stores_homes
from umecache.reporting import Reporter
from umecache.sharing.reading import is_remote, open_splits
from umecache.stores import Store, diff_facts, open_store
from umecache.stores.errors import StoreError, StoreMismatch, StoreMissing
from umecache.stores.reader import progress
from umecache.training.layers import is_layer, same_but_layers, spread, stored_layer
from umecache.training.order import Index

if TYPE_CHECKING:
    from umecache.encoders.base import Json

MODALITIES = ("text", "image", "audio")
SHOWN = 3  # ids named in an error
FILES_COMPARED = 8  # image files whose content is compared with what was encoded: enough to tell data sets apart


@dataclass(frozen=True, slots=True)
class Source:
    """One modality's stores.

    Attributes:
        name: the modality as fusions see it: "text", "image", or a name of `--features`.
        model: the encoder's short name, from the manifest.
        keyed_by: whose ids the records have.
        stores: split name -> its store.
        paths: split name -> where it lies; a URL, where it is read from afar.
    """

    name: str
    model: str
    keyed_by: Literal["question", "image", "audio"]
    stores: Mapping[str, Store]
    paths: Mapping[str, Path | str]

    @property
    def by_image(self) -> bool:
        """Records are keyed by image id."""
        return self.keyed_by == "image"

    @property
    def dim(self) -> int:
        """Width of the hidden states."""
        return int(next(iter(self.stores.values())).dim)

    def ids(self, split: Split) -> Index:
        """The record of each question of a split."""
        if self.keyed_by == "audio":
            split.file_ids("audio")  # refuses data without sounds
            return np.array([q.audio_id for q in split.questions], dtype=np.int64)
        return np.array([q.image_id if self.by_image else q.id for q in split.questions], dtype=np.int64)

    def facts(self) -> dict[str, Json]:
        """What `run.json` says of it."""
        from umecache.extraction.reload import declaration  # torch loads here; finding stores needs none

        return {
            "name": self.name,
            "model": self.model,
            "keyed_by": self.keyed_by,
            "dim": self.dim,
            "encoder": declaration(next(iter(self.stores.values()))),
            "stores": {
                split: {
                    "path": str(self.paths[split]),
                    "fingerprint": store.fingerprint,
                    "recipe": store.manifest.get("recipe_hash"),
                }
                for split, store in self.stores.items()
            },
        }


def find_sources(
    dataset: Dataset,
    splits: Sequence[Split],
    *,
    text: str | None = None,
    image: str | None = None,
    features: Mapping[str, str] | None = None,
    facts: Mapping[str, Mapping[str, Json]] | None = None,
    limit: int | None = None,
    needed: Sequence[str] = ("text", "image"),
    reporter: Reporter | None = None,
) -> tuple[Source, ...]:
    """The stores of a run, checked against its splits.

    Text comes first, then image, then `features` in the order given. A store of text or image that is not said is
    looked for if it is `needed`; where `features` are said, none is.

    Args:
        facts: modality -> facts that the recipes of its stores must hold, such as {"image": {"image_size": 384}}.
        reporter: is told of long transfers, where stores are read from afar.

    Raises:
        UsageError: several stores fit; the error lists them.
        StoreMissing, StoreIncomplete, StoreMismatch: none, an unfinished one, or one of something else.
    """
    said = {"text": text, "image": image}
    asked = {name: ref for name, ref in said.items() if ref is not None or (name in needed and not features)}
    if features:
        for name in features:
            if name in asked:
                raise UsageError(f"{name} is said twice: --{name} and --features {name}=...")
        asked |= features
    sources: list[Source] = []
    for name, said_ref in asked.items():
        layers = []
        for feature, one_ref, layer in spread(name, said_ref):
            if one_ref is not None and is_remote(one_ref):
                source = _open_remote(name, one_ref, splits, layer, reporter)
            else:
                source = _open(name, one_ref, dataset, splits, limit, layer)
            source = replace(source, name=feature)
            _check_modality(source)
            _check_recipes(source)
            _check_facts(source, (facts or {}).get(name, {}))
            for split in splits:
                check_inputs(source, split)
            layers.append(source)
        _check_layers(name, layers)
        sources += layers
    return tuple(sources)


def _open(
    name: str, ref: str | None, dataset: Dataset, splits: Sequence[Split], limit: int | None, layer: str | None
) -> Source:
    folder = _folder(name, ref, dataset, splits, limit, layer)
    names = [split.name for split in splits]
    inside = {split: found for split in names if (found := _split_folder(folder, split)) is not None}
    paths = {split: inside.get(split, folder if not inside else folder / split) for split in names}
    stores: dict[Path, Store] = {}
    for split, path in paths.items():
        if path not in stores:
            try:
                stores[path] = open_store(path)
            except StoreMissing as error:
                raise StoreMissing(
                    f"{folder} has no store of the split {split!r}." if inside else error.what,
                    why="" if inside else error.why,
                    next=_extract(name, dataset, split=split),
                ) from error
    opened = {split: stores[path] for split, path in paths.items()}
    _check_layer(opened[names[0]], folder, layer, _extract(name, dataset, model=_model(opened[names[0]])))
    model = str(opened[names[0]].manifest.get("model") or folder.name)
    return Source(name, model, _keyed_by(opened, splits), opened, paths)


def _open_remote(name: str, url: str, splits: Sequence[Split], layer: str | None, reporter: Reporter | None) -> Source:
    opened = open_splits(url, [split.name for split in splits], reporter=reporter)
    first = opened[splits[0].name]
    _check_layer(first, first.place, layer, _extract(name, None, model=_model(first), data=splits[0].folder))
    model = str(first.manifest.get("model") or name)
    return Source(name, model, _keyed_by(opened, splits), opened, {split: each.place for split, each in opened.items()})


def _model(store: Store) -> str:
    return str(store.manifest.get("model"))


def _check_layer(store: Store, place: Path | str, layer: str | None, extract: str) -> None:
    if not is_layer(store.manifest, layer):
        raise StoreMismatch(
            f"{place} does not hold layer {layer}.",
            why=f"It holds {stored_layer(store.manifest)!r}.",
            next=f"{extract} --layers {layer}",
        )


def _keyed_by(stores: Mapping[str, Store], splits: Sequence[Split]) -> Literal["question", "image", "audio"]:
    """Whose ids the records have: the stores' modality says; of features made elsewhere, the ids."""
    first = stores[splits[0].name]
    modality = first.manifest.get("modality")
    if modality in ("text", "image"):
        return "question" if modality == "text" else "image"
    if modality == "audio" and first.manifest.get("dataset") and all(split.audio_ids for split in splits):
        return "audio"
    return "question" if _holds(first, [q.id for q in splits[0].questions]) else "image"


def _split_folder(folder: Path, split: str) -> Path | None:
    """A split's store: in the folder, or in the folder of that name in another home (val may be the lab's)."""
    below = next((each for each in stores_homes() if folder.is_relative_to(each)), None)
    others = [] if below is None else [each / folder.relative_to(below) for each in stores_homes() if each != below]
    there = [each / split for each in (folder, *others) if (each / split).exists()]
    finished = (each for each in there if progress(each) is None)
    return next(finished, there[0] if there else None)


def _folder(
    name: str, ref: str | None, dataset: Dataset, splits: Sequence[Split], limit: int | None, layer: str | None
) -> Path:
    """The folder that a reference means: a path, or a name under UMECACHE_HOME."""
    if ref is None:
        return _by_name(name, ref, dataset, splits, limit, layer)
    folder = Path(ref).expanduser()
    if not _looks_like_a_path(ref) or ".py:" in ref:  # a model from a file of one's own, ./mine.py:ENTRY
        return folder if _holds_stores(folder, splits) else _by_name(name, ref, dataset, splits, limit, layer)
    if not folder.exists():
        raise StoreMissing(f"No store at {ref}.", why=f"{_flag(name)} names it.", next=_extract(name, dataset))
    return folder


def _by_name(
    name: str, ref: str | None, dataset: Dataset, splits: Sequence[Split], limit: int | None, layer: str | None
) -> Path:
    """The one folder under UMECACHE_HOME that `ref` (None: anything) can mean, of the first home that has one."""
    homes = [dataset_stores(dataset.name, limit, below=below) for below in stores_homes()]
    if limit is not None:  # the whole set's stores hold the first questions too
        homes += [dataset_stores(dataset.name, below=below) for below in stores_homes()]
    broken: list[UmecacheError] = []
    for home in homes:
        found: dict[Path, str] = {}
        exact: set[Path] = set()
        for folder in sorted(home.iterdir()) if home.is_dir() else ():
            # The folder is MODEL-RECIPE8, so a store need not be opened, nor be finished, to be passed over by name.
            model = folder.name.rpartition("-")[0]
            known = MODELS.get(model)
            if (ref is not None and ref != folder.name and _folder_name(ref) != model) or (
                ref is None and known is not None and known.modality != name
            ):
                continue
            try:
                manifest = _manifest(folder, splits)
            except StoreError as error:
                broken.append(error)
                continue
            wanted = manifest is not None and (ref is not None or manifest.get("modality") == name)
            if manifest is not None and wanted and is_layer(manifest, layer):
                found[folder] = str(manifest.get("model") or folder.name)
                if stored_layer(manifest) == layer:
                    exact.add(folder)
        if exact:  # `-1` may mean "last", but not where there is a store of "-1"
            found = {folder: found[folder] for folder in found if folder in exact}
        if len(found) == 1:
            return next(iter(found))
        if found:
            unique = len(set(found.values())) == len(found)
            names = list(found.values()) if unique else [folder.name for folder in found]
            raise UsageError(
                f"{dataset.name} has {len(found)} {name} stores{f' of {ref}' if ref else ''}: {', '.join(names)}.",
                why=f"They lie in {home}.",
                next=" or ".join(f"{_flag(name)} {each}" for each in names),
            )
    if broken:
        raise broken[0]
    raise StoreMissing(
        f"{dataset.name} has no {name} store{f' of {ref}' if ref else ''}{f', layer {layer}' if layer else ''}.",
        why=f"Looked in {', '.join(map(str, homes[: len(stores_homes())]))}." + _others_there(dataset, limit, homes),
        next=_extract(name, dataset, model=ref) + (f" --layers {layer}" if layer else ""),
    )


def _others_there(dataset: Dataset, limit: int | None, homes: Iterable[Path]) -> str:
    """What is there instead, and would be found under another name or with a limit."""
    named = sorted({each.name for home in homes if home.is_dir() for each in home.iterdir() if each.is_dir()})
    said = f" There are: {', '.join(named)}." if named else ""
    if limit is None:
        first = f"{dataset.name}-first"
        counts = {each.name.removeprefix(first) for below in stores_homes() for each in below.glob(f"{first}*")}
        limits = " or ".join(f"--limit {count}" for count in sorted(filter(str.isdecimal, counts), key=int))
        said += f" There are stores of its first questions: {limits}." if limits else ""
    return said


def _manifest(folder: Path, splits: Sequence[Split]) -> Mapping[str, Any] | None:
    """The manifest of the first of the splits that is there; None where the folder has none of them."""
    for split in splits:
        if (folder / split.name).exists():
            manifest: Mapping[str, Any] = open_store(folder / split.name).manifest
            return manifest
    return None


def check_inputs(source: Source, split: Split) -> None:
    """Refuse a store that doesn't hold a split's inputs.

    An input whose encoding failed is on the store's failure list, and so among its ids: it is counted, not refused.

    Raises:
        StoreMismatch: ids that are not stored, or inputs that are not what was encoded under their ids.
    """
    store, path, wanted = source.stores[split.name], source.paths[split.name], source.ids(split)
    stored = np.asarray(store.ids)
    if len(stored) and stored.dtype.kind != "i":
        raise StoreMismatch(
            f"{path} is keyed by text; questions and images have numbers.",
            next="store the features under the data's own ids",
        )
    distinct = np.unique(wanted)
    absent = distinct[~np.isin(distinct, stored)]
    kind = {"image": "images", "audio": "sounds", "question": "questions"}[source.keyed_by]
    extract = _extract(source.name, None, model=source.model, split=split.name, data=split.folder)
    if len(absent):
        raise StoreMismatch(
            f"{len(absent):,} of {len(distinct):,} {kind} of the split {split.name!r} are not in "
            f"{path} (first: {_first(absent)}).",
            why=_made_for(store),
            next=extract,
        )
    other = _other_inputs(source, split)
    if len(other):
        raise StoreMismatch(
            f"{path} holds other {kind} under the ids of the split {split.name!r}: {len(other):,} of those compared "
            f"differ (first: {_first(other)}).",
            why=_made_for(store),
            next=extract,
        )


def _other_inputs(source: Source, split: Split) -> Index:
    """Ids whose input is not what was encoded under them: all texts are compared, and a few image or sound files."""
    store = source.stores[split.name]
    modality = str(store.manifest.get("modality"))
    imported = (store.manifest.get("recipe") or {}).get("imported")  # its digests are of the features themselves
    if store.digests is None or imported or {"text": "question"}.get(modality, modality) != source.keyed_by:
        return np.empty(0, np.int64)
    digests: dict[int, bytes] = {}
    if modality == "text":
        for question in split.questions:
            digests[question.id] = hashlib.sha256(question.text.encode("utf-8", "surrogatepass")).digest()
    else:
        for file_id in split.image_ids if modality == "image" else split.audio_ids:
            path = split.file_path(modality, file_id) if file_id not in store.failures else None
            if path is not None:
                with contextlib.suppress(OSError):  # a file that can't be read now can't be compared
                    digests[file_id] = hashlib.sha256(path.read_bytes()).digest()
            if len(digests) == FILES_COMPARED:
                break
    ids = np.fromiter(digests, np.int64, len(digests))
    if not len(ids):
        return ids
    told_n32 = np.frombuffer(b"".join(digests.values()), np.uint8).reshape(-1, 32)
    differs: np.ndarray[Any, np.dtype[np.bool_]] = (store.digests[store.rows(ids)] != told_n32).any(axis=1)
    different: Index = ids[differs]
    return different


def _made_for(store: Store) -> str:
    made = store.manifest.get("dataset") or {}
    of = f" of {made['name']!r}, split {made.get('split')!r}" if isinstance(made, Mapping) and "name" in made else ""
    first = f", its first {made['limit']} questions" if isinstance(made, Mapping) and made.get("limit") else ""
    return f"It holds {len(store):,} inputs{of}{first}."


def _check_modality(source: Source) -> None:
    for split, store in source.stores.items():
        modality = store.manifest.get("modality")
        asked = modality_of(source.name)
        if asked in MODALITIES and modality in MODALITIES and modality != asked:
            raise StoreMismatch(
                f"{_flag(asked)} names a store of {modality} features ({source.paths[split]}).",
                next=f"--{modality} {source.paths[split]}",
            )


def _check_recipes(source: Source) -> None:
    """All splits must come from one encoder: same weights, preprocessing and layers."""
    (first, one), *others = source.stores.items()
    for split, other in others:
        if other.dim != one.dim or other.manifest.get("recipe_hash") != one.manifest.get("recipe_hash"):
            ours, theirs = dict(one.manifest.get("recipe", {})), dict(other.manifest.get("recipe", {}))
            differing = sorted(key for key in ours | theirs if ours.get(key) != theirs.get(key))
            raise StoreMismatch(
                f"The {source.name} stores of {first!r} and {split!r} were made differently.",
                why=f"They differ in: {', '.join(differing) or 'dim'}.",
                next=f"umecache extract --model {source.model} --split {first},{split}",
            )


def _check_facts(source: Source, wanted: Mapping[str, Json]) -> None:
    """The stores must have been made as the run's recipe says."""
    for split, store in source.stores.items():
        told = store.manifest.get("recipe") or {}
        lines = diff_facts({key: told.get(key) for key in wanted}, wanted)
        if lines:
            words = "; ".join(lines).replace(" in the first", " in the store").replace("in the second", "in the recipe")
            raise StoreMismatch(
                f"The {source.name} store {source.paths[split]} is not what the recipe asks for.",
                why=f"{words}.",
                next=f"umecache extract --model {source.model} with these facts, or a recipe file of your own",
            )


def _check_layers(name: str, layers: Sequence[Source]) -> None:
    """Stores that are mixed must come from one encoder: a mix of two encoders' tokens would mean nothing."""
    first, *others = layers
    for other in others:
        one, two = (next(iter(source.stores.values())).manifest.get("recipe", {}) for source in (first, other))
        folder = str(next(iter(first.paths.values()))).rpartition(os.sep)[0]
        if first.model != other.model or not same_but_layers(one, two):
            raise StoreMismatch(
                f"{_flag(name)} names several stores, which are not layers of one encoder.",
                why=f"They were made by {first.model} and {other.model}, or with other settings.",
                next=f"--features a={folder} --features b=... takes both, unmixed",
            )


def _holds(store: Store, ids: Iterable[int]) -> bool:
    return bool(np.isin(np.fromiter(ids, np.int64), np.asarray(store.ids)).all())


def _looks_like_a_path(ref: str) -> bool:
    return not ref.startswith(("hf:", "timm:")) and (os.sep in ref or ref.startswith((".", "~")) or ref.endswith(".h5"))


def _holds_stores(folder: Path, splits: Sequence[Split]) -> bool:
    """Whether a plain name is a folder of stores: one that is called like a model may hold something else."""
    inside = [*(split.name for split in splits), "manifest.json", "zarr.json"]
    return folder.is_dir() and any((folder / name).exists() for name in inside)


def _flag(name: str) -> str:
    return f"--{name}" if name in ("text", "image") else f"--features {name}="


def _first(ids: Index) -> str:
    return ", ".join(str(each) for each in ids[:SHOWN]) + (", ..." if len(ids) > SHOWN else "")


def _extract(
    name: str,
    dataset: Dataset | None,
    *,
    model: str | None = None,
    split: str | None = None,
    data: Path | None = None,
) -> str:
    """The command that makes what is missing."""
    model = model or {"text": "bert", "image": "vit", "audio": "wav2vec2"}.get(name, "MODEL")
    where = data if dataset is None else dataset.folder
    return f"umecache extract --model {model} --data {where}" + (f" --split {split}" if split else "")


def _folder_name(ref: str) -> str:
    """How `extract` names the folder of a model: short names as they are, `hf:ORG/NAME` made fit for a file system."""
    return re.sub(r"[^\w.-]+", "--", ref).strip("-.")
