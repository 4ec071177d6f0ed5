"""Many methods and seeds in one pass over the stores; one table.

    comparison = compare(CompareConfig(data="easy-vqa", methods=("text-only", "concat", "ume"), seeds=(0, 1, 2)))
    comparison.document["rows"]

Each batch is read once and fed to every head, each with its own optimizer, early stopping and random state. Where
several text or image stores are named, there is one pass for every pair of them.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from umecache.encoders.base import Json
from umecache.home import runs_home
from umecache.reporting import Reporter, Silent
from umecache.sharing.urls import public_facts
from umecache.training.config import CompareConfig
from umecache.training.folders import finished, stamp
from umecache.training.grid import find_cells, train_cell, write_cell
from umecache.training.initial import check_initial, load_initial
from umecache.training.job import (
    Material,
    Reading,
    job_facts,
    place,
    run_folder,
    say_run,
    settle_order,
)
from umecache.training.left_out import Failed, without_failures
from umecache.training.model import share_arguments
from umecache.training.on_ray import cluster, spread
from umecache.training.questions import Questions, load_questions
from umecache.training.recipe import Recipe, load_recipe
from umecache.training.resolve import Source
from umecache.training.reuse import Kept
from umecache.training.runs import versions, write_json
from umecache.training.table import write_csv, write_markdown

ENOUGH_SEEDS = 3


@dataclass(frozen=True, slots=True)
class Comparison:
    """A finished comparison: its folder, and the document that `compare --json` prints (empty in all processes but the
    main). One that the same command trained before, and was killed then, is as good as a new one."""

    path: Path
    document: dict[str, Any]


def compare(config: CompareConfig, reporter: Reporter | None = None) -> Comparison:
    """Train and score every method with every seed; write run folders, `compare.json`, `report.md` and `table.csv`.

    Raises:
        UmecacheError: data, stores or options that don't fit; no head with a finite loss; an `out` that is taken.
    """
    started = time.perf_counter()
    recipe = load_recipe(config.recipe) if config.recipe else None
    arguments = share_arguments(config.methods, config.method_args)
    with contextlib.ExitStack() as stack:
        if config.ray is not None:
            stack.enter_context(cluster(config.ray))
        where = stack.enter_context(place(config))
        reporter = (reporter or Silent()) if where.is_main else Silent()
        questions = load_questions(config)
        cells = find_cells(config, questions, reporter)
        default = runs_home() / questions.dataset.name / f"compare-{stamp()}"
        check_initial(config, arguments, cells, questions)
        config = settle_order(config, questions.train, cells, where)
        job = job_facts(config, questions, cells, where)
        if before := where.share(lambda: _trained_before(config, job)):
            reporter.say(
                f"{before.path} has all heads of this comparison; its report is written (--out NEW trains anew)"
            )
            return before if where.is_main else Comparison(before.path, {})
        kept = Kept(Path(config.out) if config.update and config.out else None)
        passes = math.inf if config.ray is not None else len(cells)  # what other nodes train comes here as checkpoints
        with run_folder(config, default, job, where, update=config.update, passes=passes) as made:
            folder, checkpoints, tracker = made
            say_run(folder, config, reporter)
            rows: list[dict[str, Any]] = []
            failed: list[Failed] = []
            bytes_read = 0
            reading: list[Reading] = []
            read = spread(config, job, questions.dataset.folder, folder, reporter) if config.ray else {}
            for number, sources in enumerate(cells):
                shared = (questions, sources, config, where.device, checkpoints, tracker)
                material = Material(*shared, read=read.get(number))
                rates, results = train_cell(material, config, arguments, number, reporter, kept)
                if where.is_main:
                    lost, results = without_failures(material, results)
                    failed += lost
                    rows += write_cell(material, config, rates, results, folder, several=len(cells) > 1)
                bytes_read += material.bytes_read
                reading.append(material.reading())
            if not where.is_main:
                return Comparison(folder.path, {})
            if not rows:
                checkpoints.drop()  # going on from there would end here again
                raise failed[0].failure
            for row in rows:
                row["source"] = _figure(recipe, row)
            document: dict[str, Any] = {
                "rows": rows,
                "bytes_read": bytes_read,
                "reading": reading,
                "report": str(folder.path / "report.md"),
                "table": str(folder.path / "table.csv"),
                "data": questions.dataset.name,
                "train_split": questions.train.name,
                "eval_split": questions.evaluation.name,
                "protocol": questions.protocol,
                "questions": questions.facts(),
                "vocabulary": questions.vocabulary_facts(),
                "baselines": questions.baselines,
                "recipe": _recipe_facts(recipe),
                "notes": _notes(config, questions, rows),
                "failed": [each.facts() for each in failed],
                "warnings": [*_warnings(config, questions, cells, rows), *(each.in_words() for each in failed)],
                "seconds_total": round(time.perf_counter() - started, 2),
                "asked": public_facts(asdict(config)),
                "cwd": str(Path.cwd()),
                "versions": versions(),
                "device": str(where.device),
            }
            write_json(folder.building / "compare.json", document)
            write_markdown(folder.building / "report.md", document)
            write_csv(folder.building / "table.csv", document)
    return Comparison(folder.path, document)


def _trained_before(config: CompareConfig, job: Mapping[str, Any]) -> Comparison | None:
    """What a process left in `out` that was killed between the training and the end of the report."""
    if config.out is None or config.update or not finished(path := Path(config.out).absolute(), job):
        return None
    document = json.loads((path / "compare.json").read_text("utf-8"))
    return None if "html" in document else Comparison(path, document)


def _figure(recipe: Recipe | None, row: Mapping[str, Any]) -> dict[str, Json] | None:
    found = recipe.figure(row["method"], row["text"], row["image"]) if recipe else None
    return None if found is None else {"mean": found.mean, "std": found.std}


def _recipe_facts(recipe: Recipe | None) -> dict[str, Json] | None:
    if recipe is None:
        return None
    return {
        "name": recipe.name,
        "title": recipe.title,
        "source": recipe.source,
        "differs": list(recipe.differs),
        "extract": recipe.extract,
    }


def _notes(config: CompareConfig, questions: Questions, rows: list[dict[str, Any]]) -> list[str]:
    """What a reader of the table has to know."""
    notes = [
        f"One read: every head saw the same batches in the same order (order seed {config.order_seed}, batch size "
        f"{config.batch_size}, "
        + ("all questions shuffled" if config.order == "full" else "questions shuffled inside windows of images")
        + "); seeds vary initialisation and dropout.",
        "± is the sample standard deviation over seeds (n - 1).",
    ]
    if config.init is not None:
        started = load_initial(config.init)
        notes.append(f"The fusion of {started.method} started from {started.path}, all else from its seeds (--init).")
    if config.label_limit is not None:
        notes.append(
            f"Trained on the answers of {len(questions.labelled):,} of {len(questions.train.questions):,} questions "
            "(--label-limit); the vocabulary is theirs too."
        )
    if stacked := dict.fromkeys(row["method"] for row in rows if row["stacked"]):
        notes.append(
            f"Trained stacked (--stack-seeds): {', '.join(stacked)}. Their numbers are those of single runs within "
            "rounding only, and with dropout they draw other masks."
        )
    if config.lr == "auto":
        notes.append(
            f"Each method's rate was chosen on {config.holdout:.0%} of train's images, held out, with seed "
            f"{config.seeds[0]}; the table's heads were then trained on all of train"
            + (" but the part for early stopping." if config.patience is not None else ".")
        )
        ends = (min(config.lr_grid), max(config.lr_grid))
        at_the_end = [row["method"] for row in rows if row["lr"] in ends]
        if len(config.lr_grid) > 1 and at_the_end:
            notes.append(
                f"At an end of the rates tried: {', '.join(dict.fromkeys(at_the_end))}; a wider grid may help."
            )
    elif len(config.rates) > 1:
        notes.append(
            "Every rate has a row of its own. The best row of a method was not chosen on train: --lr auto does that."
        )
    else:
        notes.append(
            f"One rate ({config.rates[0]:g}) for all methods; with --lr auto each takes its own, and ranks may change."
        )
    return notes


def _warnings(
    config: CompareConfig, questions: Questions, cells: Sequence[Sequence[Source]], rows: list[dict[str, Any]]
) -> list[str]:
    """What the table must not be quoted without. None of it is an error."""
    told = list(questions.notes)
    if config.shuffle_images:
        told.append(
            "Negative control: every question saw the image of another one (--shuffle-images), in training and in "
            "scoring. What is above text-only here does not come from looking at the picture."
        )
    unlearned = sorted({source.model for cell in cells for source in cell if _is_random(source)})
    if unlearned:
        told.append(f"Encoders with random weights: {', '.join(unlearned)}. Nothing that was learned is compared.")
    if len(config.seeds) < ENOUGH_SEEDS:
        told.append(f"Fewer than {ENOUGH_SEEDS} seeds: the spread over seeds is hardly known.")
    if questions.protocol in ("official-2016", "thesis"):
        told.append(f"Scored under {questions.protocol}: not comparable with official VQA accuracies.")
    if len({tuple(sorted(row["missing_inputs"].items())) for row in rows}) > 1:
        told.append("Rows differ in how many questions had a missing input.")
    return told


def _is_random(source: Source) -> bool:
    """Its encoder never learned anything."""
    encoder = source.facts()["encoder"]
    origin = encoder.get("origin") if isinstance(encoder, Mapping) else None
    return isinstance(origin, Mapping) and origin.get("weights") == "random"
