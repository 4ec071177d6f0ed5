"""The answers that a classifier chooses from, and the training targets over them.

    vocab = AnswerVocab.build(train.annotations.values(), classes=1000)
    vocab.coverage                     # 0.8747: of the questions it was built from
    vocab.hard_target(annotation)      # index of the most common answer, or None
    vocab.soft_target(annotation)      # {index: score}, scores as the evaluator gives them

A vocabulary is the most frequent normalised `multiple_choice_answer`s of one split, train unless said otherwise. The
common "3,129 answers" of VQA v2 are those seen at least 9 times in train and val together, so they leak validation
answers into a train -> val run; here that takes a deliberate `build` over both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from umecache.data.dataset import Annotation
from umecache.data.normalize import normalize
from umecache.errors import DataError, UsageError

# Official score of an answer that 0, 1, 2, 3, 4 or more of ten people gave: the mean over the ten of
# min(1, matches among the other nine / 3).
SOFT_SCORES = (0.0, 0.3, 0.6, 0.9, 1.0)
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class AnswerVocab:
    """Answers with a class index each, most frequent first, equals in order of code points.

    Attributes:
        answers: normalised; the empty string may be one ("the" normalises to it).
        counts: questions whose most common answer each is, in the split it was built from.
        questions: how many questions that split has.
        definition: what `coverage` says, in words.
    """

    answers: tuple[str, ...]
    counts: tuple[int, ...]
    questions: int
    definition: str
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = {answer: position for position, answer in enumerate(self.answers)}
        if len(index) != len(self.answers) or len(self.counts) != len(self.answers):
            raise DataError("An answer vocabulary must list each answer once, with a count each.")
        object.__setattr__(self, "_index", index)

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def coverage(self) -> float:
        """Share (0..1) of the questions it was built from whose normalised most common answer it has."""
        return sum(self.counts) / self.questions if self.questions else 0.0

    @classmethod
    def build(
        cls,
        annotations: Iterable[Annotation],
        *,
        classes: int | None = None,
        min_count: int | None = None,
        source: str = "train",
    ) -> AnswerVocab:
        """The most frequent answers.

        Args:
            annotations: those of the split to build from.
            classes: keep this many at most.
            min_count: keep those that are the most common answer of this many questions at least.
            source: what the annotations are called in `definition`.

        Raises:
            UsageError: a bound below 1.
        """
        for name, bound in (("--classes", classes), ("--min-count", min_count)):
            if bound is not None and bound < 1:
                raise UsageError(
                    f"{name} {bound} leaves no answer.", next=f"{name} {1000 if name == '--classes' else 9}"
                )
        labelled = False
        counter: Counter[str] = Counter()
        for annotation in annotations:
            counter[_target(annotation)] += 1
            labelled = annotation.labelled
        ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
        kept = [(answer, count) for answer, count in ranked if count >= (min_count or 1)][:classes]
        which = f"the {len(kept):,} most frequent" if len(kept) < len(ranked) else f"all {len(kept):,}"
        asked = "items whose label" if labelled else "questions whose normalised most common answer"
        definition = f"share of the {counter.total():,} {source} {asked} is one of {which}" + (
            f" (each of {min_count} questions or more)" if min_count else ""
        )
        return cls(tuple(a for a, _ in kept), tuple(c for _, c in kept), counter.total(), definition)

    def index(self, answer: str) -> int | None:
        """The class of an answer, as written or normalised; None where the vocabulary lacks it."""
        found = self._index.get(answer)
        return self._index.get(normalize(answer)) if found is None else found

    def hard_target(self, annotation: Annotation) -> int | None:
        """The class of the normalised most common answer, or of the label; None where the vocabulary lacks it."""
        return self._index.get(_target(annotation))

    def soft_target(self, annotation: Annotation) -> dict[int, float]:
        """Class -> official soft score (0.3, 0.6, 0.9, 1), for the answers of the vocabulary that people gave.

        All ten are normalised, also where they are equal as written (the evaluator then compares them as they are);
        the two differ for 19 of 59,164 questions of VQA v2 train.
        """
        if annotation.labelled:
            hard = self.hard_target(annotation)
            return {} if hard is None else {hard: 1.0}
        counts = Counter(map(normalize, annotation.answers))
        return {
            self._index[answer]: SOFT_SCORES[min(count, 4)] for answer, count in counts.items() if answer in self._index
        }

    def covers(self, annotations: Iterable[Annotation]) -> float:
        """Share (0..1) of other questions whose normalised most common answer the vocabulary has."""
        known = [self.hard_target(annotation) is not None for annotation in annotations]
        return sum(known) / len(known) if known else 0.0

    def to_json(self) -> dict[str, Any]:
        """A document for `json.dump`; `from_json` reads it."""
        return {
            "format": _FORMAT,
            "answers": list(self.answers),
            "counts": list(self.counts),
            "questions": self.questions,
            "coverage": self.coverage,
            "definition": self.definition,
        }

    @classmethod
    def from_json(cls, document: Any) -> AnswerVocab:
        """The vocabulary of a `to_json` document.

        Raises:
            DataError: it is something else.
        """
        try:
            if document["format"] != _FORMAT:
                raise DataError(f"An answer vocabulary of format {document['format']!r}; this version reads {_FORMAT}.")
            answers, counts = tuple(document["answers"]), tuple(document["counts"])
            questions, definition = document["questions"], document["definition"]
        except (KeyError, TypeError) as error:
            raise DataError("This is no answer vocabulary.", why=f"{type(error).__name__}: {error}.") from error
        if not all(type(answer) is str for answer in answers) or type(definition) is not str:
            raise DataError("This is no answer vocabulary.", why="Its answers must be strings.")
        if not all(type(count) is int and count > 0 for count in (*counts, questions)):
            raise DataError("This is no answer vocabulary.", why="Its counts must be whole numbers above 0.")
        return cls(answers, counts, questions, definition)


def _target(annotation: Annotation) -> str:
    """What a classifier is trained to say: labels as they are written, answers normalised."""
    return annotation.answer if annotation.labelled else normalize(annotation.answer)
