"""Stage two for one method: train fusion and classifier on cached features, score, save.

    result = fuse(FuseConfig(data="easy-vqa", text="minilm", image="mobilenetv2", method="ume", seeds=(0, 1, 2)))
    result.path, result.document["accuracy"]["overall"]

All seeds share one read of the features.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umecache.home import runs_home
from umecache.reporting import Reporter, Silent
from umecache.training.config import FuseConfig
from umecache.training.folders import stamp
from umecache.training.head import HeadSpec
from umecache.training.initial import check_initial
from umecache.training.job import Material, job_facts, place, run_folder, run_heads, say_run, settle_order
from umecache.training.model import modalities_of, share_arguments
from umecache.training.outcome import file_name, write_method, write_sweep
from umecache.training.questions import load_questions
from umecache.training.resolve import find_sources


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run: its folder, and the document that `fuse --json` prints (empty in all processes but the main)."""

    path: Path
    document: dict[str, Any]


def fuse(config: FuseConfig, reporter: Reporter | None = None) -> RunResult:
    """Train and score one method with every seed, and write its run folder.

    Raises:
        UmecacheError: data, stores or options that don't fit; a loss that is not finite; a run folder that is taken.
    """
    started = time.perf_counter()
    arguments = share_arguments((config.method,), config.method_args)[config.method]
    with place(config) as where:
        reporter = (reporter or Silent()) if where.is_main else Silent()
        questions = load_questions(config)
        sources = find_sources(
            questions.dataset,
            (questions.train, questions.evaluation),
            text=config.text,
            image=config.image,
            features=config.features,
            facts=config.facts,
            limit=config.limit,
            needed=modalities_of((config.method,)),
            reporter=reporter,
        )
        specs = [
            HeadSpec(method=config.method, seed=seed, lr=lr, method_args=arguments)
            for lr in config.rates
            for seed in config.seeds
        ]
        default = runs_home() / questions.dataset.name / f"{file_name(config.method)}-{stamp()}"
        check_initial(config, {config.method: arguments}, [sources], questions)
        config = settle_order(config, questions.train, [sources], where)
        job = job_facts(config, questions, [sources], where)
        with run_folder(config, default, job, where) as (folder, checkpoints, tracker):
            say_run(folder, config, reporter)
            material = Material(questions, sources, config, where.device, checkpoints, tracker)
            results = run_heads(material, specs, reporter, tolerant=len(config.rates) > 1)
            if not where.is_main:
                return RunResult(folder.path, {})
            if len(config.rates) == 1:
                document = write_method(folder, results, material)
            else:
                document = write_sweep(folder, config, results, material)
    lost = [f"No run at rate {each['lr']:g}: {each['why']}" for each in document.get("failed", ())]
    for note in (*questions.notes, *lost):
        reporter.say(f"note: {note}")
    document |= {
        "text": material.model_of("text"),
        "image": material.model_of("image"),
        "protocol": questions.protocol,
        "questions": questions.facts(),
        "missing_inputs": material.missing_inputs(questions.evaluation),
        "vocabulary": questions.vocabulary_facts(),
        "baselines": questions.baselines,
        "bytes_read": material.bytes_read,
        "reading": material.reading(),
        "seconds_total": round(time.perf_counter() - started, 2),
        "notes": [*questions.notes, *lost],
    }
    return RunResult(folder.path, document)
