"""VQA accuracy of predictions, as the official evaluator computes it.

    scores = score_predictions(read_results(path), split)        # umecache score RESULTS.json --data DIR --split val
    scores.overall, scores.per_answer_type, scores.per_question[262148000]

Protocols (Antol et al., ICCV 2015, arXiv:1505.00468, and the code at github.com/GT-Vision-Lab/VQA, `vqaEval.py`):

- `official-2021` (default): newline and tab to space, strip, on both sides. Where the ten answers are then not all
  equal, both sides are normalised (`umecache.data.normalize`); where they are, neither is.
- `official-2016`: the prediction is always normalised; the ten get punctuation only, and only where they disagree.
- `thesis`: min(matches / 3, 1) after normalising both sides. It gives more than the official score.

The official score of a question is the mean over its ten answers of min(1, matches among the other nine / 3): 0, .3,
.6, .9, 1 for 0, 1, 2, 3, 4 or more matches. Sums run in the order of the annotations file, left to right, as in the
official code: so the second decimal is the same even where a mean falls on a tie.

214,354 questions: about 2 s on one core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

from umecache.data.dataset import Split
from umecache.data.dataset_types import Annotation
from umecache.data.normalize import clean, normalize, remove_punctuation
from umecache.data.records import many
from umecache.data.results import read_results, write_results
from umecache.errors import DataError, UnknownName

__all__ = ["PROTOCOLS", "Scores", "read_results", "score_predictions", "score_question", "write_results"]

Protocol = Literal["official-2021", "official-2016", "thesis"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
DEFAULT_PROTOCOL: Protocol = "official-2021"
EXACT = "exact"  # of labelled items, whatever protocol is asked for


@dataclass(frozen=True, slots=True)
class Scores:
    """Accuracies of one set of predictions on one split, in percent (0..100), rounded to two decimals.

    Attributes:
        overall, per_answer_type, per_question_type: plain means of the scores of questions.
        questions: how many were scored; this is the denominator, missing ones included.
        missing: how many had no prediction and were scored 0.
        per_question: question id -> percent, in the order of the annotations.
        protocol: how they were scored: one of `PROTOCOLS`, or "exact" for labelled items.
    """

    overall: float
    per_answer_type: dict[str, float]
    per_question_type: dict[str, float]
    questions: int
    missing: int
    per_question: dict[int, float]
    protocol: str = DEFAULT_PROTOCOL

    def to_json(self) -> dict[str, Any]:
        """What `umecache score --json` prints: everything but the questions."""
        return {
            "overall": self.overall,
            "per_answer_type": self.per_answer_type,
            "per_question_type": self.per_question_type,
            "questions": self.questions,
            "missing": self.missing,
            "protocol": self.protocol,
        }


def score_question(prediction: str, answers: Sequence[str], protocol: str = DEFAULT_PROTOCOL) -> float:
    """The score (0..1) of one prediction.

    Args:
        prediction: as written.
        answers: what people answered, as written; ten in VQA.
        protocol: one of `PROTOCOLS`.

    Raises:
        UnknownName: no such protocol.
    """
    if protocol == "official-2021":
        prediction, answers = clean(prediction), [clean(answer) for answer in answers]
        if len(set(answers)) > 1:
            prediction, answers = normalize(prediction), [normalize(answer) for answer in answers]
    elif protocol == "official-2016":
        prediction = normalize(prediction)
        if len(set(answers)) > 1:
            answers = [_punctuated(answer) for answer in answers]
    elif protocol == "thesis":
        prediction = normalize(prediction)
        return min(sum(normalize(answer) == prediction for answer in answers) / 3, 1.0)
    else:
        raise UnknownName("protocol", protocol, PROTOCOLS, listing="umecache score --help")
    return _leave_one_out(tuple(answer == prediction for answer in answers))


def score_answer(prediction: str, annotation: Annotation, protocol: str = DEFAULT_PROTOCOL) -> float:
    """The score (0..1) of one prediction: labels match letter for letter or not, answers by `score_question`."""
    if annotation.labelled:
        return float(prediction == annotation.answer)
    return score_question(prediction, annotation.answers, protocol)


@lru_cache(maxsize=1 << 10)  # 2^10 patterns of ten answers
def _leave_one_out(hits: tuple[bool, ...]) -> float:
    """Mean over the answers of min(1, matches among the others / 3).

    Others are told apart by place, so two people's equal answers both count. Added up in order, since the last bit of
    the mean depends on it (0.3 or 0.30000000000000004).
    """
    matches = sum(hits)
    return _sum(min(1.0, (matches - hit) / 3) for hit in hits) / len(hits)


_punctuated = lru_cache(maxsize=1 << 16)(remove_punctuation)


def score_predictions(
    predictions: Mapping[int, str],
    split: Split,
    *,
    protocol: str = DEFAULT_PROTOCOL,
    allow_missing: bool = False,
    source: str = "The predictions",
) -> Scores:
    """Score a prediction for every question of a split.

    Args:
        predictions: answer by question id.
        split: must have annotations; its images are not looked at.
        protocol: one of `PROTOCOLS`.
        allow_missing: score questions without a prediction 0, instead of refusing.
        source: what to call the predictions in errors: the name of their file.

    Raises:
        DataError: questions without prediction, predictions for questions the split doesn't have, no annotations.
        UnknownName: no such protocol.
    """
    annotations = split.annotations
    if annotations is None:
        raise DataError(
            f"The split {split.name!r} of {split.folder} has no annotations to score against.",
            why="The answers of test splits are not public.",
            next="score on another split, or upload the file to the challenge server",
        )
    if protocol not in PROTOCOLS:
        raise UnknownName("protocol", protocol, PROTOCOLS, listing="umecache score --help")
    missing = _compare_ids(predictions, annotations, split, source, allow_missing)
    exact: dict[int, float] = {}
    by_answer_type: dict[str, list[float]] = {}
    by_question_type: dict[str, list[float]] = {}
    for question_id, annotation in annotations.items():
        answer = predictions.get(question_id)
        protocol = EXACT if annotation.labelled else protocol
        score = 0.0 if answer is None else score_answer(answer, annotation, protocol)
        exact[question_id] = score
        by_answer_type.setdefault(annotation.answer_type, []).append(score)
        by_question_type.setdefault(annotation.question_type, []).append(score)
    return Scores(
        overall=_percent(list(exact.values())),
        per_answer_type={name: _percent(scores) for name, scores in by_answer_type.items()},
        per_question_type={name: _percent(scores) for name, scores in by_question_type.items()},
        questions=len(exact),
        missing=missing,
        per_question={question_id: round(100 * score, 2) for question_id, score in exact.items()},
        protocol=protocol,
    )


def _compare_ids(
    predictions: Mapping[int, str], questions: Mapping[int, object], split: Split, source: str, allow_missing: bool
) -> int:
    unknown = [question_id for question_id in predictions if question_id not in questions]
    missing = [question_id for question_id in questions if question_id not in predictions]
    where = f"the split {split.name!r} of {split.folder}"
    if unknown:
        also = f", and misses {len(missing):,} of its {len(questions):,} questions" if missing else ""
        raise DataError(
            f"{source} answers {many(len(unknown), 'question')} that {where} doesn't have "
            f"(first: question_id {unknown[0]}){also}.",
            why="It may belong to another split.",
            next="name the split it is for with --split",
        )
    if missing and not allow_missing:
        raise DataError(
            f"{source} misses {len(missing):,} of the {len(questions):,} questions of {where} "
            f"(first: question_id {missing[0]}).",
            next="answer them, or score them 0 with --allow-missing",
        )
    return len(missing)


def _sum(values: Iterable[float]) -> float:
    # Not `sum`, which compensates for rounding from Python 3.12 on, nor `fsum`: the official figures don't.
    total = 0.0
    for value in values:
        total += value
    return total


def _percent(scores: Sequence[float]) -> float:
    return round(100 * _sum(scores) / len(scores), 2)
