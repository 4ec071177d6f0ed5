"""What one trained head makes of some questions: its answers, its maps, and how faithful they are.

    heads = open_heads([Path("runs/mini/ume"), Path("runs/mini/concat")], seed=0)
    for look in heads[0].look(questions, kinds=("gradcam",), measured=True):
        look.answer, look.maps["gradcam"]["image"], look.faithful["gradcam"].gain

Shapes: B questions, T tokens of a modality, N of them with a position, D width, C answer classes, S variants.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from umecache.analysis.evidence import local, read_document
from umecache.analysis.faithfulness import ORDERS, Faithfulness, faithfulness
from umecache.analysis.inputs import Inputs, open_inputs
from umecache.analysis.maps import chances, maps_of, mixed, places
from umecache.analysis.sections import labels
from umecache.analysis.table import is_control
from umecache.data.dataset import Annotation, Question, Split
from umecache.encoders.base import TokenGrid
from umecache.errors import UnknownName, UsageError
from umecache.fusion.base import Features
from umecache.training.runs import Run, load_run

BATCH = 16  # questions at once
_FILLED_FROM = 256  # questions whose tokens make the mean token
PREDICTED, RIGHT = "predicted", "right"
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Look:
    """A head and a question.

    Attributes:
        answer: what it says.
        target: the answer that is explained; None: the right one, which its vocabulary lacks.
        chance: what it gives the target, 0 to 1.
        maps: kind -> modality -> values of its real tokens [T].
        faithful: kind -> how faithful the map of the picture is.
    """

    question: Question
    answer: str
    target: str | None
    chance: float | None
    maps: Mapping[str, Mapping[str, Floats]]
    faithful: Mapping[str, Faithfulness]


@dataclass(frozen=True)
class Head:
    """A run with its inputs.

    Attributes:
        label: its name beside others'.
    """

    label: str
    run: Run
    inputs: Inputs
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def picture(self) -> str | None:
        """The modality that lies over the image."""
        return self.inputs.picture

    @cached_property
    def grid(self) -> TokenGrid | None:
        """Where its tokens lie."""
        return None if self.picture is None else self.inputs.grid(self.picture)

    @property
    def soft(self) -> bool:
        """It was trained on soft scores: an answer's chance is a sigmoid."""
        return bool(self.run.facts["asked"]["loss"] == "soft")

    def features(self, questions: Sequence[Question]) -> Features:
        """As the fusion sees them."""
        return mixed(self.run.model, self.inputs.gather(questions, self.device))

    @cached_property
    def filler(self) -> Tensor:
        """The mean token [D] of the picture's modality: over tokens with a position, of some questions spread evenly
        over the split."""
        assert self.picture is not None
        asked = self.inputs.split.questions
        chosen = [asked[place] for place in np.unique(np.linspace(0, len(asked) - 1, _FILLED_FROM).astype(int))]
        total, count = None, 0
        for first in range(0, len(chosen), BATCH):
            tokens_BTD, mask_BT = self.features(chosen[first : first + BATCH])[self.picture]
            kept_BT = places(mask_BT, self.grid)
            part_D = tokens_BTD[kept_BT].double().sum(0)
            total = part_D if total is None else total + part_D
            count += int(kept_BT.sum())
        assert total is not None
        return (total / max(count, 1)).float()

    def target(self, asked: str, annotation: Annotation | None, best: int) -> int | None:
        """The class that is explained."""
        if asked == PREDICTED:
            return best
        if asked == RIGHT:
            return None if annotation is None else self.run.vocab.hard_target(annotation)
        found = self.run.vocab.index(asked)
        if found is None:
            raise UnknownName("answer", asked, self.run.vocab.answers, listing=str(self.run.path / "run.json"))
        return found

    def look(
        self,
        questions: Sequence[Question],
        *,
        kinds: Sequence[str],
        target: str = PREDICTED,
        measured: bool = False,
        orders: int = ORDERS,
        seed: int = 0,
    ) -> Iterator[Look]:
        """Answers and maps of some questions.

        Args:
            kinds: of `maps.KINDS`; one that the method has not is left out.
            target: the answer that is explained: "predicted", "right", or a word of the vocabulary.
            measured: whether to measure how faithful the maps are.
            orders: random ones to measure against.
            seed: of these orders and of ties.
        """
        for first in range(0, len(questions), BATCH):
            part = questions[first : first + BATCH]
            features = self.features(part)
            chance_BC = chances(self.run.model, features, soft=self.soft)
            annotations = self.inputs.split.annotations or {}
            targets = [
                self.target(target, annotations.get(question.id), best)
                for question, best in zip(part, chance_BC.argmax(1).tolist(), strict=True)
            ]
            target_B = torch.tensor([0 if each is None else each for each in targets], device=self.device)
            kept = {
                name: places(features[name][1], self.grid if name == self.picture else None)
                for name in dict.fromkeys(
                    (*(("text",) if "text" in features else ()), *((self.picture,) if self.picture else ()))
                )
            }
            found = {kind: maps_of(self.run.model, features, kind, target_B, kept) for kind in kinds}
            for row, question in enumerate(part):
                rng = np.random.default_rng([seed, question.id % 2**32])
                chosen = targets[row]
                maps, faithful = {}, {}
                for kind, per_modality in found.items():
                    if per_modality is None or chosen is None:
                        continue
                    maps[kind] = {
                        name: map_BT[row][features[name][1][row]].float().cpu().numpy()
                        for name, map_BT in per_modality.items()
                    }
                    if measured and self.picture in per_modality and bool(kept[self.picture][row].any()):
                        values_T, kept_T = per_modality[self.picture][row], kept[self.picture][row]
                        places_N = kept_T.nonzero().flatten()
                        faithful[kind] = faithfulness(
                            self._chance(features, row, chosen),
                            features[self.picture][0][row],
                            self.filler,
                            places_N,
                            values_T[places_N],
                            rng=rng,
                            orders=orders,
                        )
                yield Look(
                    question,
                    self.run.vocab.answers[int(chance_BC[row].argmax())],
                    None if chosen is None else self.run.vocab.answers[chosen],
                    None if chosen is None else float(chance_BC[row, chosen]),
                    maps,
                    faithful,
                )

    def _chance(self, features: Features, row: int, target: int) -> Callable[[Tensor], Tensor]:
        """What the head gives `target` for variants [S, T, D] of one question's picture."""
        assert self.picture is not None
        # The question's own length: what others of the batch are padded to costs time.
        length = {name: max(int(mask[row].sum()), 1) for name, (_, mask) in features.items()}
        length[self.picture] = features[self.picture][0].shape[1]

        def chance(variants_STD: Tensor) -> Tensor:
            many = {
                name: (
                    tokens[row, : length[name]].expand(len(variants_STD), -1, -1),
                    mask[row, : length[name]].expand(len(variants_STD), -1),
                )
                for name, (tokens, mask) in features.items()
            }
            many[str(self.picture)] = variants_STD, many[str(self.picture)][1]
            return chances(self.run.model, many, soft=self.soft)[:, target]

        return chance


def open_heads(
    paths: Sequence[Path],
    *,
    seed: int | None = None,
    device: str = "cpu",
    data: str | None = None,
    features: Mapping[str, str] | None = None,
) -> list[Head]:
    """Runs with their inputs; a comparison's folder stands for all its runs but the controls.

    Args:
        paths: run folders and comparisons.
        seed: which head, where a run has several; None: its first.
        device: where heads compute.
        data, features: as `open_inputs`.

    Raises:
        UmecacheError: no run, runs of different questions, stores or data that are gone or others.
    """
    folders: list[Path] = []
    said: list[str | None] = []  # what a comparison calls its rows
    for path in paths:
        rows = _rows(path) if (path / "compare.json").is_file() else [(path, None)]
        folders += [folder for folder, _ in rows]
        said += [name for _, name in rows]
    runs = [load_run(folder, seed=seed, device=device) for folder in folders]
    splits: dict[str, Split] = {}  # read once for all runs on it
    heads = []
    for label, run in zip(_labels(folders, runs, said), runs, strict=True):
        told = json.dumps(
            [data or run.facts["data"]["folder"], run.facts["data"]["eval_split"], run.facts["asked"]["limit"]]
        )
        inputs = open_inputs(run, data=data, features=features, split=splits.get(told))
        splits[told] = inputs.split
        heads.append(Head(label, run, inputs, torch.device(device)))
    for head in heads[1:]:
        if set(head.inputs.split.questions) != set(heads[0].inputs.split.questions):
            raise UsageError(
                f"{head.run.path} was evaluated on other questions than {heads[0].run.path}.",
                why="Side by side they would be shown different things.",
                next="one umecache explain for each",
            )
    return heads


def _rows(path: Path) -> list[tuple[Path, str | None]]:
    """The run folders of a comparison, controls left out, and what its report calls them."""
    document = read_document(path)
    named = list(zip(document["rows"], labels(document), strict=True))
    chosen = [(row, name) for row, name in named if not is_control(row["method"])] or named
    return [(local(document, row["run"], path), name) for row, name in chosen]


def _labels(folders: Sequence[Path], runs: Sequence[Run], said: Sequence[str | None]) -> list[str]:
    """A name for each: the comparison's own, else the method; in brackets, where several are called so, what tells
    them apart: encoders, the folder, or its whole path."""
    found = [name or str(run.facts["method"]) for name, run in zip(said, runs, strict=True)]
    encoders = [" + ".join(dict.fromkeys(str(each["model"]) for each in run.facts["features"])) for run in runs]
    for name in {name for name in found if found.count(name) > 1}:
        places = [place for place, other in enumerate(found) if other == name]
        for words in (encoders, [folder.name for folder in folders], list(map(str, folders))):
            if len({words[place] for place in places}) == len(places):
                for place in places:
                    found[place] = f"{name} ({words[place]})"
                break
    return found
