"""The questions of a run: its two splits, the answer vocabulary, the targets, and the scores that need no features.

    questions = load_questions(config)
    questions.vocab, questions.targets, questions.score(answers_Q)

Shapes: Q questions of the eval split.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from umecache.data.answers import AnswerVocab
from umecache.data.dataset import Dataset, Question, Split, open_dataset
from umecache.data.scoring import EXACT, Scores, score_predictions
from umecache.encoders.base import Json
from umecache.errors import DataError
from umecache.training.config import TrainConfig
from umecache.training.overlap import refuse_shared_questions, shared_inputs
from umecache.training.targets import Index, Targets, hold_out, some_labels


@dataclass(frozen=True)
class Questions:
    """See the module.

    Attributes:
        train, evaluation: the splits; `evaluation` may have no annotations (test): it is then predicted, not scored.
        vocab: answers of train only, of its labelled questions.
        labelled: positions of the train questions whose answers may be used: all, but for `label_limit`.
    """

    config: TrainConfig
    dataset: Dataset
    train: Split
    evaluation: Split
    vocab: AnswerVocab
    targets: Targets
    labelled: Index
    notes: tuple[str, ...] = field(default=())

    @cached_property
    def trained_on(self) -> Index:
        """Positions of the labelled train questions whose answer the vocabulary has."""
        return np.intersect1d(self.targets.known, self.labelled)

    @cached_property
    def held_out(self) -> tuple[Index, Index]:
        """(positions to train on, positions held out), divided by image.

        Raises:
            DataError: one of them is empty.
        """
        rest, held = hold_out(self.train, self.config.holdout, self.config.order_seed)
        rest, held = np.intersect1d(rest, self.trained_on), np.intersect1d(held, self.labelled)
        if not (len(rest) and len(held)):
            left = "hold out" if len(rest) else "train on"
            raise DataError(
                f"Of {len(self.labelled):,} labelled questions none is left to {left}.",
                next="a larger --label-limit, or another --holdout",
            )
        return rest, held

    @cached_property
    def targets_sha256(self) -> str:
        """What the train questions are trained towards, and what decides when a head stops."""
        return self.targets.sha256(soft=self.config.loss == "soft" or self.config.patience is not None)

    def answers(self, classes_Q: Index) -> dict[int, str]:
        """Question id -> answer, for predicted classes in the order of the eval split."""
        questions = self.evaluation.questions
        return {q.id: self.vocab.answers[c] for q, c in zip(questions, classes_Q.tolist(), strict=True)}

    def score(self, classes_Q: Index) -> Scores | None:
        """Official scores of predicted classes; None where the eval split has no annotations."""
        if self.evaluation.annotations is None:
            return None
        return score_predictions(self.answers(classes_Q), self.evaluation, protocol=self.config.protocol)

    @property
    def protocol(self) -> str:
        """How answers are scored: as configured, or exact match of labels."""
        annotations = self.evaluation.annotations or self.train.annotations or {}
        return EXACT if any(each.labelled for each in annotations.values()) else self.config.protocol

    @cached_property
    def baselines(self) -> dict[str, Json]:
        """What needs no training: always train's most frequent answer; the most frequent answer of each question's
        wording in train (else the former). In percent; empty where eval can't be scored.
        """
        if self.evaluation.annotations is None:
            return {}
        hard = self.targets.hard(self.trained_on).tolist()
        by_wording: dict[str, Counter[int]] = {}
        for position, answer in zip(self.trained_on.tolist(), hard, strict=True):
            by_wording.setdefault(_wording(self.train.questions[position]), Counter())[answer] += 1
        majority = Counter(hard).most_common(1)[0][0]
        usual = {wording: counts.most_common(1)[0][0] for wording, counts in by_wording.items()}
        asked = self.evaluation.questions
        always = self.score(np.full(len(asked), majority, np.int64))
        per_question = self.score(np.array([usual.get(_wording(q), majority) for q in asked], np.int64))
        assert always is not None and per_question is not None
        return {
            "majority_answer": self.vocab.answers[majority],
            "majority": always.overall,
            "majority_per_question": per_question.overall,
        }

    def facts(self) -> dict[str, Json]:
        """What tables and `run.json` say of the questions."""
        annotations = self.evaluation.annotations
        unknown = None
        if annotations is not None:
            unknown = sum(self.vocab.hard_target(annotations[q.id]) is None for q in self.evaluation.questions)
        return {
            "train": len(self.train.questions),
            "labelled": len(self.labelled),
            "trained_on": len(self.trained_on),
            "skipped_out_of_vocabulary": len(self.labelled) - len(self.trained_on),
            "eval": len(self.evaluation.questions),
            "eval_out_of_vocabulary": unknown,
        }

    def vocabulary_facts(self) -> dict[str, Json]:
        """Size and coverage of the vocabulary."""
        return {
            "classes": len(self.vocab.answers),
            "coverage": round(100 * self.vocab.coverage, 2),
            "definition": self.vocab.definition,
        }


def load_questions(config: TrainConfig) -> Questions:
    """Read both splits, build the vocabulary, refuse splits that share questions.

    Raises:
        DataError: no annotations to train on, shared questions, an empty vocabulary.
    """
    dataset = open_dataset(config.data)
    train = dataset.split(config.train_split, limit=config.limit)
    evaluation = dataset.split(config.eval_split, limit=config.limit)
    refuse_shared_questions(train, evaluation)
    if train.annotations is None:
        raise DataError(
            f"{train.folder}: the split {train.name!r} has no annotations.",
            why="Training needs answers.",
            next="name an annotated split with --train-split",
        )
    labelled = some_labels(train, config.label_limit, config.order_seed)
    answered = (train.annotations[train.questions[position].id] for position in labelled)
    vocab = AnswerVocab.build(answered, classes=config.classes or None, min_count=config.min_count, source=train.name)
    targets = Targets(train, vocab)
    if not len(targets.known):
        raise DataError(
            f"No answer of {train.name!r} is left in the vocabulary.",
            why=f"--classes {config.classes}, --min-count {config.min_count}.",
            next="--min-count 1",
        )
    return Questions(config, dataset, train, evaluation, vocab, targets, labelled, shared_inputs(train, evaluation))


def _wording(question: Question) -> str:
    return " ".join(question.text.lower().split())
