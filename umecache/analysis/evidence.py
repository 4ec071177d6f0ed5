"""What the answers of a comparison amount to: `compare.json` with intervals, differences, agreement and bounds.

    document = read_document(folder)                                 # FOLDER/compare.json
    document = with_statistics(document, folder, split)              # the same, and `statistics`; rows say more

Everything is computed from the results files in the folder and the annotations of the data, so whoever has both can do
it again. The scores of every seed are checked against what the comparison says of them.

Shapes: M rows, S seeds, Q questions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.analysis.statistics import CONFIDENCE, ROUNDS, Floats, Groups, agreement, bootstrap, holm
from umecache.analysis.table import is_control
from umecache.data.answers import AnswerVocab
from umecache.data.dataset import Split
from umecache.data.results import read_results
from umecache.data.scoring import score_answer
from umecache.errors import DataError, UnknownName, UsageError


@dataclass(frozen=True, slots=True)
class Answered:
    """What every head answered.

    Attributes:
        codes: a number for each answer; equal numbers are equal answers to that question [M, S, Q].
        scores: 0 to 1 [M, S, Q].
    """

    codes: NDArray[np.int16]
    scores: NDArray[np.float32]


def read_document(folder: Path) -> dict[str, Any]:
    """`compare.json` of a finished comparison.

    Raises:
        UsageError: no comparison.
        DataError: it can't be read.
    """
    file = folder / "compare.json"
    if not file.is_file():
        raise UsageError(
            f"{folder} is not a comparison.", why="It has no compare.json.", next="umecache compare --out DIR makes one"
        )
    try:
        document: dict[str, Any] = json.loads(file.read_text("utf-8"))
        if not document["rows"] or not all(row["seeds"] for row in document["rows"]):
            raise ValueError("it has no rows")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} can't be read.", why=f"{type(error).__name__}: {error}") from error
    return document


def local(document: Mapping[str, Any], path: str, folder: Path) -> Path:
    """A path of the document inside `folder`, which may have been moved since.

    Raises:
        DataError: the document names a file outside the comparison.
    """
    try:
        inside = Path(path).relative_to(Path(document["report"]).parent)
    except ValueError as error:
        raise DataError(f"compare.json names a file outside its folder: {path}.") from error
    if ".." in inside.parts:
        raise DataError(f"compare.json names a file outside its folder: {path}.")
    return folder / inside


def answers_of(document: Mapping[str, Any], folder: Path, row: Mapping[str, Any], seed: int) -> dict[int, str]:
    """Question id -> answer, of one row and its n-th seed."""
    return read_results(local(document, row["seeds"][seed]["results"], folder))


def score_all(document: Mapping[str, Any], folder: Path, split: Split) -> Answered:
    """Read and score the answers of every head; each different answer to a question is scored once.

    Raises:
        DataError: files that are damaged or belong to other data.
    """
    annotations = split.annotations
    assert annotations is not None
    rows = document["rows"]
    shape = (len(rows), len(rows[0]["seeds"]), len(split.questions))
    codes_MSQ, scores_MSQ = np.empty(shape, np.int16), np.empty(shape, np.float32)
    known: list[dict[str, tuple[int, float]]] = [{} for _ in split.questions]
    for m, row in enumerate(rows):
        if len(row["seeds"]) != shape[1]:
            raise DataError("The rows of the comparison have different numbers of seeds.")
        for s, seed in enumerate(row["seeds"]):
            answers = _checked(document, folder, row, s, split)
            for q, question in enumerate(split.questions):
                answer, told = answers[question.id], known[q]
                if answer not in told:
                    told[answer] = (len(told), score_answer(answer, annotations[question.id], document["protocol"]))
                codes_MSQ[m, s, q], scores_MSQ[m, s, q] = told[answer]
            mean = 100 * float(scores_MSQ[m, s].mean(dtype=np.float64))
            if abs(mean - seed["overall"]) > 0.011:  # rounded to two decimals there
                raise DataError(
                    f"{seed['results']} scores {mean:.2f}, but compare.json says {seed['overall']:.2f}.",
                    why="The answers or the annotations are not those of the comparison.",
                )
    return Answered(codes_MSQ, scores_MSQ)


def _checked(
    document: Mapping[str, Any], folder: Path, row: Mapping[str, Any], seed: int, split: Split
) -> dict[int, str]:
    """The answers of one head: every question of the split once, and no other, as the challenge server wants them."""
    answers = answers_of(document, folder, row, seed)
    if answers.keys() != {question.id for question in split.questions}:
        raise DataError(
            f"{row['seeds'][seed]['results']} does not answer the questions of {split.name!r} in {split.folder}.",
            why=f"It has {len(answers):,} answers for {len(split.questions):,} questions.",
            next="name the data of the comparison with --data",
        )
    return answers


def choose_baseline(rows: Sequence[Mapping[str, Any]], asked: str | None) -> str:
    """What differences are taken to: what was asked for, else the first method that is no control, else the first.

    Raises:
        UnknownName: no row of that method.
    """
    methods: list[str] = list(dict.fromkeys(row["method"] for row in rows))
    if asked is None:
        return next((name for name in methods if not is_control(name)), methods[0])
    if asked not in methods:
        raise UnknownName("baseline", asked, tuple(methods), listing="umecache compare --help")
    return asked


def with_statistics(
    document: Mapping[str, Any], folder: Path, split: Split, *, baseline: str | None = None, rounds: int = ROUNDS
) -> dict[str, Any]:
    """The document with `statistics`, and rows with `interval`, `per_answer_type_interval` and `difference`.

    Args:
        document: of a comparison in `folder`.
        split: its eval split, with or without annotations; without (test splits), the results files are checked
            and nothing is added but `statistics: null`.
        baseline: a method; differences are taken to it within each pair of encoders.
        rounds: of the bootstrap.
    """
    rows = [dict(row) for row in document["rows"]]
    chosen = choose_baseline(rows, baseline)
    if split.annotations is None:
        for row in rows:
            for place in range(len(row["seeds"])):
                _checked(document, folder, row, place, split)
        return {**document, "rows": rows, "statistics": None}
    answered = score_all(document, folder, split)
    groups = Groups.of(np.array([question.image_id for question in split.questions], np.int64))
    sums = groups.sums(answered.scores)
    found = bootstrap(sums, groups.sizes, rounds=rounds)
    for m, row in enumerate(rows):
        row["interval"] = _percent(found.low[m], found.high[m])
    kinds = [split.annotations[question.id].answer_type for question in split.questions]
    for row in rows:
        row["per_answer_type_interval"] = {}
    for kind in dict.fromkeys(kinds):
        of_kind = np.array([each == kind for each in kinds])
        sizes = np.bincount(groups.place, of_kind, len(groups.sizes)).astype(np.float64)
        part = bootstrap(groups.sums(answered.scores * of_kind), sizes, rounds=rounds)
        for m, row in enumerate(rows):
            row["per_answer_type_interval"][kind] = _percent(part.low[m], part.high[m])
    _differences(rows, sums, groups, chosen, rounds)
    same = agreement(answered.codes)
    statistics = {
        "baseline": chosen,
        "confidence": CONFIDENCE,
        "rounds": rounds,
        "questions": len(split.questions),
        "images": len(groups.sizes),
        "seeds": answered.scores.shape[1],
        "answer_types": _counts(kinds),
        "question_types": _counts([split.annotations[question.id].question_type for question in split.questions]),
        "agreement": [[None if np.isnan(v) else round(100 * float(v), 1) for v in line] for line in same],
        "oracle": {
            "vocabulary": _best_of_vocabulary(document, folder, split),
            "any_row": round(100 * float(answered.scores.max(0).mean(dtype=np.float64)), 2),
        },
    }
    return {**document, "rows": rows, "statistics": statistics}


def _differences(rows: list[dict[str, Any]], sums: Floats, groups: Groups, baseline: str, rounds: int) -> None:
    """To the baseline with the same encoders and, where every rate has a row, the same rate."""
    several = len({row["lr"] for row in rows if row["method"] == baseline}) > 1
    pairs: list[tuple[int, int]] = []
    for m, row in enumerate(rows):
        row["difference"] = None
        for other, base in enumerate(rows):
            same = base["features"] == row["features"] if "features" in row else base["text"] == row["text"]
            if base["method"] == baseline and other != m and same and (not several or base["lr"] == row["lr"]):
                pairs.append((m, other))
    if not pairs:
        return
    found = bootstrap(np.stack([sums[m] - sums[other] for m, other in pairs]), groups.sizes, rounds=rounds)
    corrected = holm(found.p)
    for place, (m, _) in enumerate(pairs):
        low, high = _percent(found.low[place], found.high[place])
        rows[m]["difference"] = {
            "to": baseline,
            "mean": round(100 * float(found.mean[place]), 2),
            "low": low,
            "high": high,
            "p": round(float(found.p[place]), 5),
            "p_holm": round(float(corrected[place]), 5),
        }


def _best_of_vocabulary(document: Mapping[str, Any], folder: Path, split: Split) -> float:
    """The accuracy of a head that always chose the best class there is."""
    run = local(document, document["rows"][0]["seeds"][0]["results"], folder).parent / "run.json"
    try:
        vocab = AnswerVocab.from_json(json.loads(run.read_text("utf-8"))["vocabulary"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{run} can't be read.", why=f"{type(error).__name__}: {error}") from error
    assert split.annotations is not None
    total = 0.0
    for annotation in split.annotations.values():
        classes = {vocab.index(answer) for answer in {annotation.answer, *annotation.answers}}
        total += max(
            (score_answer(vocab.answers[c], annotation, document["protocol"]) for c in classes if c is not None),
            default=0.0,
        )
    return round(100 * total / len(split.annotations), 2)


def _counts(kinds: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _percent(low: float, high: float) -> list[float]:
    return [round(100 * float(low), 2), round(100 * float(high), 2)]
