"""Heads of an earlier comparison that a changed one need not train again.

    kept = Kept(folder)                             # a finished comparison, or None
    result = kept.result(spec, material)            # None: it has no such head

Every head's `run.json` bears its `job`: the digest of all that decides its result (method, seed, rate, settings,
stores, targets, versions), and of nothing that doesn't (which other heads shared the pass, where the run lies). A head
whose job is asked for again is what training it again would give, bit for bit on one kind of machine, since heads share
nothing but the batches.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file

from umecache.data.results import read_results
from umecache.encoders.base import Json
from umecache.errors import DataError
from umecache.training.head import Epoch, Head, HeadSpec
from umecache.training.initial import load_initial
from umecache.training.job import NOT_DECIDING, Material, Result
from umecache.training.rates import Rate
from umecache.training.runs import versions

_BY_SPEC = frozenset({"method", "methods", "method_args", "seeds", "lr", "lr_grid"})
_BY_STORES = frozenset({"data", "text", "image", "features", "facts", "recipe", "init"})


def head_job(spec: HeadSpec, material: Material) -> str:
    """sha256 (hex) of what decides a head's result."""
    skipped = NOT_DECIDING | _BY_SPEC | _BY_STORES
    config, questions = material.config, material.questions
    facts = {
        "spec": dataclasses.asdict(spec),
        "settings": {key: value for key, value in dataclasses.asdict(config).items() if key not in skipped},
        "stores": {source.name: _fingerprints(source.facts()) for source in material.sources},
        "init": None if config.init is None else load_initial(config.init).digest,
        "targets": questions.targets_sha256,
        "answers": questions.vocab.answers,
        "questions": [question.id for question in questions.evaluation.questions],
        "versions": versions(),
        "device": material.device.type,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def rate_job(method: str, arguments: Mapping[str, Json], grid: Sequence[float], material: Material) -> str:
    """sha256 (hex) of what decides which rate of the grid a method takes."""
    seed = material.config.seeds[0]
    jobs = [head_job(HeadSpec(method=method, seed=seed, lr=lr, method_args=arguments), material) for lr in grid]
    return hashlib.sha256("\n".join(["rates", *jobs]).encode()).hexdigest()


class Kept:
    """The heads of a comparison.

    Args:
        folder: its folder; None, or one that holds none: there are no heads.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @cached_property
    def _heads(self) -> dict[str, Path]:
        """Job -> run folder."""
        if self._folder is None:
            return {}
        found: dict[str, Path] = {}
        for file in sorted((self._folder / "runs").rglob("run.json")):
            try:
                job = json.loads(file.read_text("utf-8")).get("job")
            except (OSError, ValueError):
                continue  # such a head is trained again
            if isinstance(job, str):
                found[job] = file.parent
        return found

    @cached_property
    def _rates(self) -> dict[str, Rate]:
        """Job -> the rate that was chosen, of the rows of `compare.json`."""
        if self._folder is None:
            return {}
        try:
            rows = json.loads((self._folder / "compare.json").read_text("utf-8"))["rows"]
            return {
                row["lr_job"]: Rate(row["lr"], {float(lr): score for lr, score in row["lr_tried"].items()})
                for row in rows
                if row.get("lr_job")
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # they are chosen again

    def rate(
        self, method: str, arguments: Mapping[str, Json], grid: Sequence[float], material: Material
    ) -> Rate | None:
        """The rate that was chosen for this method under the same settings."""
        return self._rates.get(rate_job(method, arguments, grid, material))

    def result(self, spec: HeadSpec, material: Material) -> Result | None:
        """The head of this spec as it was trained, and what it answered; None where there is none.

        Raises:
            DataError: its files can't be read.
        """
        folder = self._heads.get(head_job(spec, material))
        if folder is None:
            return None
        (head,) = material.heads([spec], material.questions.trained_on)
        try:
            facts = json.loads((folder / "run.json").read_text("utf-8"))
            history = [
                _epoch(line) for line in csv.DictReader((folder / "history.csv").read_text("utf-8").splitlines())
            ]
            _restore(head, folder, facts, history)
            answers = read_results(folder / f"results_{material.questions.evaluation.name}.json")
            numbers = {answer: number for number, answer in enumerate(material.questions.vocab.answers)}
            asked = material.questions.evaluation.questions
            classes_Q = np.array([numbers[answers[question.id]] for question in asked], np.int64)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise DataError(
                f"{folder} can't be taken over.",
                why=f"{type(error).__name__}: {error}",
                next="--overwrite in place of --update trains everything anew",
            ) from error
        return Result(head, material.questions.answers(classes_Q), material.questions.score(classes_Q))


def _restore(head: Head, folder: Path, facts: Mapping[str, Any], history: list[Epoch]) -> None:
    head.model.load_state_dict(load_file(folder / "model.safetensors"))
    head.model.eval()
    head.closed, head.history = True, history
    head.seconds, head.facts = float(facts["seconds"]), dict(facts["facts"])
    head.stacked = bool(facts.get("stacked", False))
    head.best_epoch = int(facts["seeds"][0]["best_epoch"])


def _epoch(line: Mapping[str, str]) -> Epoch:
    held = float(line["held_out"]) if line["held_out"] else None
    return Epoch(epoch=int(line["epoch"]), loss=float(line["loss"]), lr=float(line["lr"]), held_out=held)


def _fingerprints(facts: Mapping[str, Any]) -> dict[str, Json]:
    """What the stores of one modality hold, wherever they lie."""
    stores: dict[str, Json] = {split: [each["fingerprint"], each["recipe"]] for split, each in facts["stores"].items()}
    return {"stores": stores, "keyed_by": facts["keyed_by"], "dim": facts["dim"]}
