"""What trained heads amount to: means over seeds, JSON documents, run folders.

    facts = write_method(folder, results, material)     # the run folder of one method, one seed or several

Accuracies are percentages with two decimals; spreads are sample standard deviations over seeds (n - 1), 0 for one.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from umecache.data.results import write_results
from umecache.data.scoring import Scores
from umecache.encoders.base import Json
from umecache.fusion.registry import file_of
from umecache.sharing.urls import public_facts
from umecache.training.config import FuseConfig
from umecache.training.folders import NewFolder
from umecache.training.job import Material, Result
from umecache.training.left_out import without_failures
from umecache.training.reuse import head_job
from umecache.training.runs import versions, write_json, write_run


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation, each rounded to two decimals."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return round(statistics.fmean(values), 2), round(spread, 2)


def accuracy_of(results: Sequence[Result]) -> dict[str, Json] | None:
    """`overall`, `per_answer_type`, `per_question_type`, each the mean over seeds; None where nothing can be scored."""
    scores = [result.scores for result in results if result.scores is not None]
    if not scores:
        return None
    return {
        "overall": mean_std([each.overall for each in scores])[0],
        "per_answer_type": _means(each.per_answer_type for each in scores),
        "per_question_type": _means(each.per_question_type for each in scores),
    }


def write_method(folder: NewFolder, results: Sequence[Result], material: Material) -> dict[str, Any]:
    """Write the run folder of one method and return its facts: those of `fuse`'s document and more.

    Args:
        folder: an empty folder (`building`) that will become `path`.
        results: one per seed.
        material: what the heads were trained on.
    """
    single = len(results) == 1
    seeds: list[dict[str, Any]] = []
    for result in results:
        name = "" if single else f"seed-{result.head.spec.seed}"
        inner = NewFolder(folder.building / name, folder.path / name)
        inner.building.mkdir(exist_ok=True)
        seeds.append(_write_head(inner, result, material))
    head = results[0].head
    facts: dict[str, Any] = {
        "run": str(folder.path),
        "method": head.spec.method,
        "accuracy": accuracy_of(results),
        "seeds": seeds,
        "results": seeds[0]["results"],
        "std": mean_std([r.scores.overall for r in results if r.scores])[1] if results[0].scores else None,
        "lr": head.spec.lr,
        "parameters": head.parameters,
        "seconds": round(sum(result.head.seconds for result in results), 2),
    }
    if not single:
        write_json(folder.building / "run.json", {"format": 1, **_asked(results[0], material), **facts})
    return facts


def write_sweep(folder: NewFolder, config: FuseConfig, results: Sequence[Result], material: Material) -> dict[str, Any]:
    """Write a run folder for each rate, `lr-RATE`, and `sweep.json` over them; the document of `fuse` with several.

    Raises:
        JobFailed: no rate trains the method.
    """
    rows = []
    failed, results = without_failures(material, results)
    if not results:
        raise failed[0].failure
    for lr in dict.fromkeys(each.head.spec.lr for each in results):
        name = f"lr-{lr:g}"
        inner = NewFolder(folder.building / name, folder.path / name)
        inner.building.mkdir()
        rows.append(write_method(inner, [each for each in results if each.head.spec.lr == lr], material))
    document: dict[str, Any] = {"run": str(folder.path), "method": config.method, "rows": rows}
    document["failed"] = [each.facts() for each in failed]
    write_json(folder.building / "sweep.json", document)
    return document


def _write_head(folder: NewFolder, result: Result, material: Material) -> dict[str, Any]:
    head, evaluation = result.head, material.questions.evaluation
    results_name = f"results_{evaluation.name}.json"
    write_results(folder.building / results_name, result.answers, evaluation)
    seed = {
        "seed": head.spec.seed,
        "overall": result.scores.overall if result.scores else None,
        "epochs": len(head.history),
        "best_epoch": head.best_epoch,
        "results": str(folder.path / results_name),
    }
    facts: dict[str, Any] = {
        **_asked(result, material),
        "vocabulary": material.questions.vocab.to_json(),
        "run": str(folder.path),
        "method": head.spec.method,
        "accuracy": score_facts(result.scores),
        "seeds": [seed],
        "lr": head.spec.lr,
        "job": head_job(head.spec, material),
        "parameters": head.parameters,
        "seconds": round(head.seconds, 2),
        "stacked": head.stacked,
        "facts": {name: round(value, 4) for name, value in head.facts.items()},
    }
    write_run(folder.building, facts, model=head.model, history=head.history)
    return seed


def score_facts(scores: Scores | None) -> dict[str, Json] | None:
    """One head's scores, as `run.json` holds them."""
    if scores is None:
        return None
    return {
        "overall": scores.overall,
        "per_answer_type": dict(scores.per_answer_type),
        "per_question_type": dict(scores.per_question_type),
    }


def _asked(result: Result, material: Material) -> dict[str, Any]:
    """What the run was asked for, and on what it stands."""
    questions, config = material.questions, material.config
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": versions(),
        "device": str(material.device),
        "asked": public_facts(dataclasses.asdict(config)),
        "protocol": questions.protocol,
        "data": {
            "name": questions.dataset.name,
            "folder": str(questions.dataset.folder),
            "train_split": questions.train.name,
            "eval_split": questions.evaluation.name,
        },
        "model": {
            "method": result.head.spec.method,
            "method_args": dict(result.head.spec.method_args),
            "file": None if (file := file_of(result.head.spec.method)) is None else str(file),
            "dims": {source.name: source.dim for source in material.sources},
            "width": config.width,
            "dropout": config.dropout,
            "classes": questions.targets.classes,
        },
        "init": None if material.initial is None else material.initial.told(),
        "features": [source.facts() for source in material.sources],
        "questions": questions.facts(),
        "vocabulary_facts": questions.vocabulary_facts(),
        "missing_inputs": material.missing_inputs(questions.evaluation),
        "reading": material.reading(),
    }


def _means(scores: Iterable[Mapping[str, float]]) -> dict[str, Json]:
    listed = list(scores)
    return {name: mean_std([each[name] for each in listed])[0] for name in listed[0]}


def file_name(text: str) -> str:
    """A method or model as part of a file name: `./mine.py:Mine` -> `mine.py-Mine`."""
    kept = "".join(c if c.isalnum() or c in "._+-" else "-" for c in text.removeprefix("./"))
    return kept.strip("-.") or Path(text).stem
