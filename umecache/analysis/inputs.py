"""A trained run's questions and features again, checked against what it was trained on.

    inputs = open_inputs(run)                       # as its run.json says; data and stores may be elsewhere now
    features = inputs.gather(inputs.split.questions[:8])    # what `run.logits` takes

A run whose stores are gone, or are others now, is refused in words.

Shapes: B questions, T tokens padded to the longest record, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from umecache.data.dataset import Question, Split, open_dataset
from umecache.encoders.base import TokenGrid
from umecache.errors import DataError, UnknownName, UsageError
from umecache.fusion.base import Features
from umecache.fusion.naming import modality_of
from umecache.sharing.reading import is_remote, located, open_store
from umecache.stores import Store
from umecache.stores.errors import StoreMismatch
from umecache.training.batches import FeatureReader
from umecache.training.resolve import Source, check_inputs
from umecache.training.runs import Run


@dataclass(frozen=True)
class Inputs:
    """What a run was evaluated on.

    Attributes:
        split: its eval split.
        sources: its stores of that split, one per name of features.
    """

    split: Split
    sources: tuple[Source, ...]

    @cached_property
    def places(self) -> dict[int, int]:
        """Question id -> its position in the split."""
        return {question.id: place for place, question in enumerate(self.split.questions)}

    @cached_property
    def _reader(self) -> FeatureReader:
        stores = {source.name: (source.stores[self.split.name], source.ids(self.split)) for source in self.sources}
        return FeatureReader(stores, device=torch.device("cpu"), residency="store")

    def gather(self, questions: Sequence[Question], device: torch.device | str = "cpu") -> Features:
        """Name of features -> (tokens [B, T, D] float32, mask [B, T])."""
        index_B = np.array([self.places[question.id] for question in questions], np.int64)
        features = self._reader.gather(index_B).features
        return {name: (tokens.to(device), mask.to(device)) for name, (tokens, mask) in features.items()}

    def store(self, modality: str) -> Store | None:
        """The store of a modality (the first, where several layers are mixed); None where the run reads none."""
        found = (source for source in self.sources if modality_of(source.name) == modality)
        return next((source.stores[self.split.name] for source in found), None)

    @property
    def picture(self) -> str | None:
        """The modality whose tokens lie on a grid over an image; None where there is none."""
        for source in self.sources:
            manifest = source.stores[self.split.name].manifest
            if manifest.get("modality") == "image" and manifest.get("grid"):
                return modality_of(source.name)
        return None

    def grid(self, modality: str) -> TokenGrid:
        """Where the tokens of a picture lie.

        Raises:
            DataError: the store's manifest declares no grid, or none that can be meant.
        """
        store = self.store(modality)
        said = None if store is None else store.manifest.get("grid")
        try:
            assert isinstance(said, Mapping)
            grid = TokenGrid(height=int(said["height"]), width=int(said["width"]), prefix=int(said.get("prefix", 0)))
            assert min(grid.height, grid.width) >= 1 and grid.prefix >= 0
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"The grid of the {modality} store can't be meant: {said!r}.") from error
        return grid


def open_inputs(
    run: Run, *, data: str | None = None, features: Mapping[str, str] | None = None, split: Split | None = None
) -> Inputs:
    """The eval split of a run and its stores.

    Args:
        split: the eval split, where it has been read already.
        data: where the data are now; None: where they were.
        features: name of features -> where their store is now (a folder with splits inside, or one store).

    Raises:
        UmecacheError: data or stores that are gone, or are not those of the run; a run on shuffled images.
    """
    asked, told = run.facts["asked"], run.facts["data"]
    if asked.get("shuffle_images"):
        raise UsageError(
            f"{run.path} was trained and scored with every image exchanged for another one.",
            why="It is a negative control: what it saw is not the picture of its question.",
            next="name a run without --shuffle-images",
        )
    if split is None:
        split = open_dataset(data or told["folder"]).split(told["eval_split"], limit=asked.get("limit"))
    moved = dict(features or {})
    sources = []
    for facts in run.facts["features"]:
        name, place = str(facts["name"]), facts["stores"][split.name]
        path = located(moved.pop(name), split.name) if name in moved else located(place["path"])
        store = open_store(path)
        path = store.place if is_remote(path) else path
        if store.fingerprint != place["fingerprint"]:
            raise StoreMismatch(
                f"{path} is not the {name} store that {run.path} was trained with.",
                why=f"Its fingerprint is {store.fingerprint[:16]}, the run's {str(place['fingerprint'])[:16]}.",
                next=f"--features {name}=STORE",
            )
        source = Source(name, str(facts["model"]), facts["keyed_by"], {split.name: store}, {split.name: path})
        check_inputs(source, split)
        sources.append(source)
    if moved:
        raise UnknownName("features", next(iter(moved)), [each.name for each in sources], listing="umecache explain -h")
    return Inputs(split, tuple(sources))
