"""What `umecache.fuse` and `compare` give back: numbers and paths with names and types.

    result.accuracy, result.std           # of the first row: `fuse` has one, unless several rates were asked for
    for row in result.rows: print(row.method, row.accuracy, row.path)
    result.document                       # all there is: what `--json` prints

Accuracies are percentages with two decimals, means over seeds; spreads are sample standard deviations over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class SeedScore:
    """One trained head."""

    seed: int
    accuracy: float | None  # None where the eval split has no annotations
    epochs: int
    results: Path  # its answers, in the challenge's upload format


@dataclass(frozen=True, slots=True)
class Row:
    """One method at one rate, all its seeds.

    Attributes:
        text, image: the encoders' names; None where the run reads no such features.
        per_answer_type, per_question_type: accuracies; empty where nothing is scored.
        parameters: of one head, fusion and classifier.
        path: its run folder, for `umecache.load_run`.
    """

    method: str
    text: str | None
    image: str | None
    accuracy: float | None
    std: float | None
    seeds: tuple[SeedScore, ...]
    lr: float
    parameters: int
    per_answer_type: Mapping[str, float]
    per_question_type: Mapping[str, float]
    path: Path


@dataclass(frozen=True, slots=True)
class FuseResult:
    """A finished run.

    Attributes:
        path: its folder, for `umecache.load_run`; of several rates, the folder of their runs.
        rows: one for each rate; empty in all processes of a launcher but the main.
        document: what `fuse --json` prints.
    """

    path: Path
    rows: tuple[Row, ...]
    document: Mapping[str, Any]

    @property
    def accuracy(self) -> float | None:
        """Of the one rate; of several, the first's: `rows` has them all."""
        return self.rows[0].accuracy if self.rows else None

    @property
    def std(self) -> float | None:
        """Over seeds, likewise; 0 for one seed."""
        return self.rows[0].std if self.rows else None


@dataclass(frozen=True, slots=True)
class CompareResult:
    """A finished comparison.

    Attributes:
        path: its folder.
        rows: one for each method (and rate, and pair of stores), in the order asked for.
        report: the page to read first.
        warnings: what the table must not be quoted without.
        document: what `compare --json` prints.
    """

    path: Path
    rows: tuple[Row, ...]
    report: Path
    warnings: tuple[str, ...]
    document: Mapping[str, Any]


def row_of(facts: Mapping[str, Any], **shared: Any) -> Row:
    """A row of a document; `shared` is what stands beside all its rows."""
    told = {**shared, **facts}
    accuracy = told.get("accuracy") or {}
    return Row(
        method=told["method"],
        text=told["text"],
        image=told["image"],
        accuracy=told["mean"] if "mean" in told else accuracy.get("overall"),
        std=told["std"],
        seeds=tuple(
            SeedScore(each["seed"], each["overall"], each["epochs"], Path(each["results"])) for each in told["seeds"]
        ),
        lr=told["lr"],
        parameters=told["parameters"],
        per_answer_type=told.get("per_answer_type") or accuracy.get("per_answer_type") or {},
        per_question_type=told.get("per_question_type") or accuracy.get("per_question_type") or {},
        path=Path(told["run"]),
    )


@dataclass(frozen=True, slots=True)
class SplitResult:
    """A split that a trained head has answered.

    Attributes:
        answers: by question id, every question of the split once.
        accuracy: None where the split has no annotations.
        results: the file of them, in the challenge's upload format.
    """

    answers: Mapping[int, str]
    accuracy: float | None
    results: Path
