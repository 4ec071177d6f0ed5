"""The cells of a comparison: a pair of stores each, and the heads that are trained on it.

    cells = find_cells(config, questions, reporter)
    rates, results = train_cell(material, config, arguments, number, reporter, kept)
    rows = write_cell(material, config, rates, results, folder, several=True)

A cell's methods share one pass over its stores. Where a single pair is spread over a cluster, each method has a pass of
its own: heads share nothing but the batches, so the numbers are the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from umecache.encoders.base import Json
from umecache.reporting import Reporter
from umecache.training.cells import Cell, tell_apart
from umecache.training.config import CompareConfig
from umecache.training.folders import NewFolder
from umecache.training.head import HeadSpec
from umecache.training.job import Material, Result, run_heads
from umecache.training.model import modalities_of
from umecache.training.outcome import file_name, mean_std, write_method
from umecache.training.questions import Questions
from umecache.training.rates import Rate, choose_rates
from umecache.training.resolve import find_sources
from umecache.training.reuse import Kept, rate_job

Arguments = Mapping[str, Mapping[str, Json]]


def pairs(config: CompareConfig) -> list[tuple[str | None, str | None]]:
    """The text and the image store of every cell, as they were named."""
    return list(itertools.product(config.text or (None,), config.image or (None,)))


def find_cells(config: CompareConfig, questions: Questions, reporter: Reporter) -> list[Cell]:
    """The stores of every cell; all of them are found and checked before anything is trained.

    Raises:
        UmecacheError: stores that are missing or don't fit; one that is named twice.
    """
    return tell_apart([find_cell(config, questions, number, reporter) for number in range(len(pairs(config)))])


def find_cell(config: CompareConfig, questions: Questions, number: int, reporter: Reporter) -> Cell:
    """The stores of one."""
    text, image = pairs(config)[number]
    return find_sources(
        questions.dataset,
        (questions.train, questions.evaluation),
        text=text,
        image=image,
        features=config.features,
        facts=config.facts,
        limit=config.limit,
        needed=modalities_of(config.methods),
        reporter=reporter,
    )


def groups(config: CompareConfig) -> list[tuple[str, ...]]:
    """The methods of a cell that share a pass: all; on a cluster that has but one cell to share, each by itself."""
    if config.ray is not None and len(pairs(config)) == 1:
        return [(method,) for method in config.methods]
    return [config.methods]


def pass_name(kind: str, config: CompareConfig, number: int, group: int) -> str:
    """What the checkpoint of a pass is called."""
    return f"{kind}-{number}" + (f".{group}" if len(groups(config)) > 1 else "")


def train_cell(
    material: Material, config: CompareConfig, arguments: Arguments, number: int, reporter: Reporter, kept: Kept
) -> tuple[dict[str, Rate], list[Result]]:
    """All heads of a cell: those that are kept, and the others trained. In other processes than the main one, which
    alone has all results and writes them, its own.
    """
    rates: dict[str, Rate] = {}
    results: list[Result] = []
    for group in range(len(groups(config))):
        chosen, trained = train_group(material, config, arguments, number, group, reporter, kept)
        rates |= chosen
        results += trained
    return rates, results


def train_group(
    material: Material,
    config: CompareConfig,
    arguments: Arguments,
    number: int,
    group: int,
    reporter: Reporter,
    kept: Kept,
) -> tuple[dict[str, Rate], list[Result]]:
    """One pass over a pair of stores, and one before it where rates are chosen; without the heads that are kept."""
    methods = groups(config)[group]
    rates: dict[str, Rate] = {}
    if config.lr == "auto":
        for method in methods:
            if rate := kept.rate(method, arguments[method], config.lr_grid, material):
                rates[method] = rate
        if unknown := {method: arguments[method] for method in methods if method not in rates}:
            name = pass_name("rates", config, number, group)
            rates |= choose_rates(material, unknown, config.lr_grid, reporter, name=name)
        for method, rate in rates.items():
            reporter.say(f"rate of {method}: {rate.lr:g}")
    specs = [
        HeadSpec(method=method, seed=seed, lr=lr, method_args=arguments[method])
        for method in methods
        for lr in config.rates or (rates[method].lr,)
        for seed in config.seeds
    ]
    found = {place: result for place, spec in enumerate(specs) if (result := kept.result(spec, material))}
    missing = [spec for place, spec in enumerate(specs) if place not in found]
    if found:
        reporter.say(f"{len(found)} of {len(specs)} heads are taken over from {config.out}; {len(missing)} to train")
    name = pass_name("heads", config, number, group)
    trained = run_heads(material, missing, reporter, name=name, tolerant=True) if missing else []
    if len(trained) < len(missing):
        return rates, trained
    rest = iter(trained)
    return rates, [found[place] if place in found else next(rest) for place in range(len(specs))]


def write_cell(
    material: Material,
    config: CompareConfig,
    rates: Mapping[str, Rate],
    results: Sequence[Result],
    folder: NewFolder,
    *,
    several: bool,
) -> list[dict[str, Any]]:
    """The run folders of one pass, and a row per method."""
    pair = "+".join(file_name(source.model) for source in material.sources) if several else ""
    rows = []
    several_rates = len(config.rates) > 1
    for method, lr in dict.fromkeys((result.head.spec.method, result.head.spec.lr) for result in results):
        own = [result for result in results if (result.head.spec.method, result.head.spec.lr) == (method, lr)]
        inner = Path("runs") / pair / (file_name(method) + (f"-lr-{lr:g}" if several_rates else ""))
        (folder.building / inner).mkdir(parents=True)
        facts = write_method(NewFolder(folder.building / inner, folder.path / inner), own, material)
        overall = [result.scores.overall for result in own if result.scores is not None]
        mean, std = mean_std(overall) if overall else (None, None)
        rows.append(
            {
                "method": method,
                "text": material.model_of("text"),
                "image": material.model_of("image"),
                "mean": mean,
                "std": std,
                "seeds": facts["seeds"],
                "features": {source.name: source.model for source in material.sources},
                "per_answer_type": (facts["accuracy"] or {}).get("per_answer_type"),
                "per_question_type": (facts["accuracy"] or {}).get("per_question_type"),
                "lr": facts["lr"],
                "lr_tried": {f"{lr:g}": score for lr, score in rates[method].tried.items()} if rates else None,
                "lr_job": rate_job(method, own[0].head.spec.method_args, config.lr_grid, material) if rates else None,
                "parameters": facts["parameters"],
                "seconds": facts["seconds"],
                "stacked": any(result.head.stacked for result in own),
                "method_args": dict(own[0].head.spec.method_args),
                **material.sizes(material.questions.evaluation),
                "missing_inputs": material.missing_inputs(material.questions.evaluation),
                "run": facts["run"],
            }
        )
    return rows
