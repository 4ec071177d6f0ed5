"""What a data set consists of: questions, and what people answered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one image, and perhaps a sound."""

    id: int
    image_id: int
    text: str
    audio_id: int | None = None  # None: data of this kind has no sounds


@dataclass(frozen=True, slots=True)
class Annotation:
    """What people answered.

    Attributes:
        answers: the ten human answers, as written.
        answer: `multiple_choice_answer` as written; where the file has none, the most common of the ten (the first
            mentioned of equals).
        question_type, answer_type: as in the file, else "unknown".
        labelled: the one answer is a label: it is never normalised, and nothing else is right.
    """

    answers: tuple[str, ...]
    answer: str
    question_type: str
    answer_type: str
    labelled: bool = False
