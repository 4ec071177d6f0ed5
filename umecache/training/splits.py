"""A trained head answers a whole split from its stores: a results file, as the challenge server takes it.

    answers = answer_split(load_run("runs/vqa-v2/ume-20260101-120000"), "test-dev")
    write_results("results_test-dev.json", answers.by_question, answers.split)

The stores of the split are looked for beside those that the run was trained on; they must have been made alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from umecache.data.dataset import Split, open_dataset
from umecache.data.scoring import EXACT, Scores, score_predictions
from umecache.encoders.base import Json
from umecache.errors import UsageError
from umecache.reporting import Reporter, Silent
from umecache.sharing.reading import is_remote, located, open_store
from umecache.sharing.urls import public
from umecache.stores import diff_facts
from umecache.stores.errors import StoreMismatch, StoreMissing
from umecache.training.batches import FeatureReader, batches
from umecache.training.resolve import Source, check_inputs
from umecache.training.runs import Run

BATCH = 256


@dataclass(frozen=True, slots=True)
class SplitAnswers:
    """What a head answered.

    Attributes:
        by_question: question id -> answer, every question of the split once.
        scores: None where the split has no annotations.
    """

    split: Split
    by_question: Mapping[int, str]
    scores: Scores | None


def answer_split(
    run: Run,
    split: str,
    *,
    data: str | None = None,
    stores: Mapping[str, str] | None = None,
    batch_size: int = BATCH,
    reporter: Reporter | None = None,
) -> SplitAnswers:
    """Answer every question of a split.

    Args:
        run: a trained head, on the device that it is to run on.
        data: a data folder or name; None: the run's.
        stores: modality (`text@-4` for a layer of a mix) -> the split's store, or the folder that has one per split;
            where it is not said, the folder of the run's own.

    Raises:
        UmecacheError: no such split or store; a store that was made otherwise, or from other inputs.
    """
    facts, reporter = run.facts, reporter or Silent()
    part = open_dataset(data or facts["data"]["folder"]).split(split, limit=facts["asked"].get("limit"))
    sources = _sources(facts["features"], part, dict(stores or {}))
    device = next(run.model.parameters()).device
    reader = FeatureReader(
        {source.name: (source.stores[split], source.ids(part)) for source in sources}, device=device, residency="store"
    )
    classes_Q = np.empty(len(part.questions), np.int64)
    with reporter.task(f"answering {split}", len(classes_Q), "questions") as task:
        for batch in batches(reader, np.arange(len(classes_Q)), batch_size=batch_size):
            with torch.inference_mode():
                classes_Q[batch.index] = run.logits(batch.features).argmax(dim=-1).cpu().numpy()
            task.advance(len(batch.index))
    answers = run.vocab.answers
    by_question = {q.id: answers[number] for q, number in zip(part.questions, classes_Q.tolist(), strict=True)}
    return SplitAnswers(part, by_question, _scores(by_question, part, facts["protocol"]))


def _scores(by_question: Mapping[int, str], split: Split, protocol: str) -> Scores | None:
    if split.annotations is None:
        return None
    labelled = any(each.labelled for each in split.annotations.values())
    return score_predictions(by_question, split, protocol=EXACT if labelled else protocol)


def _sources(features: list[dict[str, Any]], split: Split, said: dict[str, str]) -> list[Source]:
    if unknown := said.keys() - {feature["name"] for feature in features}:
        known = ", ".join(feature["name"] for feature in features)
        raise UsageError(f"The run reads no features called {unknown.pop()!r}.", why=f"It reads: {known}.")
    return [_source(feature, split, said.get(feature["name"])) for feature in features]


def _source(feature: dict[str, Any], split: Split, said: str | None) -> Source:
    """The store of one of the run's modalities."""
    name, recorded = feature["name"], dict(feature["stores"])
    path = _path(recorded, split.name) if said is None else located(said, split.name)
    try:
        store = open_store(path)
    except StoreMissing as error:
        path = public(str(path))
        raise StoreMissing(
            f"The run's {name} features have no store of the split {split.name!r}.",
            why=f"There is none at {path}.",
            next=f"umecache extract --model {feature['model']} --split {split.name} --data {split.folder}, as the "
            f"others were made; or --features {name}=STORE",
        ) from error
    path = store.place if is_remote(path) else path
    made: Mapping[str, Json] = (feature.get("encoder") or {}).get("recipe") or {}
    found: Mapping[str, Json] = store.manifest.get("recipe") or {}
    if lines := diff_facts(dict(made), dict(found)):
        raise StoreMismatch(
            f"{path} was not made as the stores that this head was trained on.",
            why="Trained on and found: " + "; ".join(lines[:3]) + ".",
            next=f"umecache extract --model {feature['model']} --split {split.name}, as the others were made",
        )
    source = Source(name, feature["model"], feature["keyed_by"], {split.name: store}, {split.name: path})
    check_inputs(source, split)
    return source


def _path(recorded: Mapping[str, Any], split: str) -> str | Path:
    """Beside a store of another split, or the one store of all."""
    if split in recorded:
        return located(recorded[split]["path"])
    other, facts = next(iter(recorded.items()))
    if is_remote(facts["path"]):
        folder, _, name = str(facts["path"]).rpartition("/")
        return f"{folder}/{split}" if name == other else str(facts["path"])
    path = Path(facts["path"])
    return path.with_name(split) if path.name == other else path
