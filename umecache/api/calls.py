"""The commands as functions: the same settings, typed results, nothing printed.

    stores = umecache.extract(["sample-text", "sample-image"], data="umecache-demo/data")
    run = umecache.fuse(method="ume", data="umecache-demo/data", seeds=3)
    table = umecache.compare(methods=("text-only", "concat", "ume"), data="umecache-demo/data", lr="auto")
    umecache.predict(run, "what is on the table?", image="kitchen.jpg")[0].answer

A mistake raises an UmecacheError that says what, why and what to do next; settings are named as the command's options.
Progress goes to a `Reporter`, where one is given. A call runs in this process on one device; where several are named
(and for `extract` with "auto", where there are several GPUs) it starts a process for each, which tell no progress. A
script that `torchrun`, `accelerate launch` or `srun` started takes part with all of its processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Unpack

import torch

from umecache.analysis.page import write_all
from umecache.api.members import in_members, summaries_of
from umecache.api.results import CompareResult, FuseResult, Row, SplitResult, row_of
from umecache.api.settings import (
    CompareSettings,
    ExtractSettings,
    File,
    FuseSettings,
    compare_settings,
    extract_config,
    fuse_settings,
)
from umecache.api.signature import with_settings
from umecache.data.results import write_results
from umecache.encoders.base import EncoderOptions
from umecache.errors import UnknownName
from umecache.extraction import extract as extraction
from umecache.extraction.config import ExtractConfig, StoreSummary
from umecache.extraction.devices import here, launched, parse_devices
from umecache.reporting import Reporter
from umecache.training import compare as comparing
from umecache.training import fuse as fusing
from umecache.training.answering import Answerer, Guess
from umecache.training.config import CompareConfig, FuseConfig
from umecache.training.refs import StoreRef, store_ref
from umecache.training.runs import Run, load_run
from umecache.training.splits import answer_split


@with_settings(ExtractSettings, ExtractConfig, EncoderOptions)
def extract(
    model: str | Sequence[str] | None = None,
    *,
    reporter: Reporter | None = None,
    **settings: Unpack[ExtractSettings],
) -> list[StoreSummary]:
    """Stage one: run frozen encoders once and store their hidden states.

    Args:
        model: one encoder or several, as `umecache extract --model` names them; None: those of `recipe`.
        settings: see `ExtractSettings`; data=None is VQA v2, split=None train and val.

    Returns:
        One summary per model, split and layer: path, records, tokens, what could not be read, ...; a store that is
        complete already is not made again.

    Raises:
        UmecacheError: bad input, an unknown model, a store of something else at that path, a full disk, ...
    """
    config = extract_config(model, **settings)
    if not launched() and not config.retry_failed and len(named := parse_devices(config.device)) > 1:
        return summaries_of(in_members("extract", named, {"model": model, **settings}))
    mine = not torch.distributed.is_available() or not torch.distributed.is_initialized()
    place = here(config.device)
    try:
        return extraction.extract(config, reporter, place)
    finally:
        if mine:  # a group that the caller has made goes on
            place.leave()


@with_settings(FuseSettings, FuseConfig)
def fuse(*, reporter: Reporter | None = None, **settings: Unpack[FuseSettings]) -> FuseResult:
    """Stage two: train one fusion method on cached features, score it, save it.

    Args:
        settings: see `FuseSettings` and, for the defaults, `umecache.training.config.FuseConfig`.

    Raises:
        UmecacheError: data, stores or settings that don't fit; a loss that is not finite; a run folder that is taken.
    """
    config = fuse_settings(settings)
    if named := _several(config.device):
        told = in_members("fuse", named, settings)
        return fuse_result(Path(told["path"]), told["document"])
    result = fusing.fuse(config, reporter)
    return fuse_result(result.path, result.document)


def fuse_result(path: Path, document: Mapping[str, Any]) -> FuseResult:
    """A finished run with names and types."""
    shared = {name: document.get(name) for name in ("method", "text", "image")}
    facts: Sequence[Mapping[str, Any]] = document.get("rows", (document,)) if document else ()
    return FuseResult(path, tuple(row_of(each, **shared) for each in facts), document)


@with_settings(CompareSettings, CompareConfig)
def compare(
    *, baseline: str | None = None, reporter: Reporter | None = None, **settings: Unpack[CompareSettings]
) -> CompareResult:
    """Train many methods and seeds in one pass over the stores, and write the report.

    Args:
        baseline: what differences are taken to; None: the first method that is no control.
        settings: see `CompareSettings` and, for the defaults, `umecache.training.config.CompareConfig`.

    Raises:
        UmecacheError: data, stores or settings that don't fit; a loss that is not finite; an `out` that is taken.
    """
    config = compare_settings(settings)
    if baseline is not None and baseline not in config.methods:
        raise UnknownName("baseline", baseline, config.methods, listing="umecache compare --help")
    if named := _several(config.device):
        told = in_members("compare", named, {"baseline": baseline, **settings})
        return _compared(Path(told["path"]), told["document"])
    return compare_result(comparing.compare(config, reporter), baseline)


def compare_result(comparison: comparing.Comparison, baseline: str | None) -> CompareResult:
    """A finished comparison with its report; whatever happens here, nothing trained is lost."""
    if not comparison.document:  # another process speaks for the job
        return CompareResult(comparison.path, (), comparison.path / "report.html", (), {})
    return _compared(comparison.path, write_all(comparison.path, baseline=baseline))


def _compared(path: Path, document: Mapping[str, Any]) -> CompareResult:
    rows: tuple[Row, ...] = tuple(row_of(each) for each in document["rows"])
    return CompareResult(path, rows, Path(document["html"]), tuple(document["warnings"]), document)


def predict(
    run: File | Run | FuseResult,
    question: str | None = None,
    *,
    image: str | Path | bytes | None = None,
    audio: str | Path | bytes | None = None,
    seed: int | None = None,
    top: int = 5,
    weights: Mapping[str, str] | None = None,
    devices: str = "auto",
) -> list[Guess]:
    """Answer a new question: encoders as the run's stores declare them, then the trained head.

    For several questions load once: `answerer = load_run(path).answerer`, then `answerer.ask(questions, image)`, which
    encodes an image once for all questions about it.

    Args:
        image, audio: a file, or its bytes; not needed by a head that doesn't look at them.
        seed: which head, where the run has several; None: its first.
        weights: model -> checkpoint, where an encoder's weights are not found.

    Returns:
        The `top` likeliest answers, best first.

    Raises:
        UmecacheError: no such run, encoders that differ from those it was trained on, an image that can't be read.
    """
    answerer = Answerer(_loaded(run, seed, devices), weights=weights)
    return answerer.ask([] if question is None else [question], image, audio=audio, top=top)[0]


def predict_split(
    run: File | Run | FuseResult,
    split: str,
    *,
    data: File | None = None,
    features: Mapping[str, StoreRef] | None = None,
    out: File | None = None,
    seed: int | None = None,
    devices: str = "auto",
    reporter: Reporter | None = None,
) -> SplitResult:
    """Answer every question of a split from its stores, into a results file; no encoder is needed.

    Args:
        data: of the split; None: the run's.
        features: modality -> its store of the split, where it does not lie beside the run's.
        out: the results file; None: results_SPLIT.json in the run.

    Raises:
        UmecacheError: no such run, split or store; a store that was made otherwise, or from other inputs.
    """
    loaded = _loaded(run, seed, devices)
    stores = {name: store_ref(store) for name, store in (features or {}).items()}
    found = answer_split(loaded, split, data=None if data is None else fspath(data), stores=stores, reporter=reporter)
    file = loaded.path / f"results_{split}.json" if out is None else Path(out)
    write_results(file, found.by_question, found.split)
    return SplitResult(found.by_question, None if found.scores is None else found.scores.overall, file)


def _loaded(run: File | Run | FuseResult, seed: int | None, devices: str) -> Run:
    if isinstance(run, Run):
        return run
    path = Path(run) if isinstance(run, str | PathLike) else run.path
    return load_run(path, seed=seed, device=parse_devices(devices)[0])


def _several(devices: str) -> list[str]:
    """The devices of a call that takes more than one process; empty for all others."""
    if launched() or devices == "auto":
        return []
    named = parse_devices(devices)
    return named if len(named) > 1 else []
