"""Results files in the challenge's upload format: `[{"question_id": 1, "answer": "yes"}, ...]`, each question once.

    predictions = read_results(Path("results_val.json"))
    write_results(Path("results_val.json"), predictions, split)

What is read is checked as strictly as the challenge server would: a bad file is refused here, not after an upload.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from umecache.data.dataset import Split
from umecache.data.files import write_text
from umecache.data.records import is_id, kind_of, many, read_records
from umecache.errors import DataError


def read_results(path: str | Path) -> dict[int, str]:
    """Answer by question id, in file order.

    Raises:
        DataError: the file can't be read; a record has no whole-number `question_id` or no string `answer`; a
            question comes twice. Names the file and the first such record, and counts them.
    """
    path = Path(path)
    answers: dict[int, str] = {}
    wrong: list[str] = []  # the first says it all; the others are only counted
    doubled: list[int] = []
    for number, record in read_records(path, None):
        question_id, answer = record.get("question_id"), record.get("answer")
        if type(question_id) is not int or not is_id(question_id):
            wrong.append(f"record {number}: question_id is {_found(record, 'question_id')}; a whole number is expected")
        elif type(answer) is not str:
            wrong.append(
                f"record {number} (question_id {question_id}): answer is {_found(record, 'answer')}; "
                "a string is expected"
            )
        elif question_id in answers:
            doubled.append(question_id)
        else:
            answers[question_id] = answer
    if wrong:
        more = f" ({len(wrong):,} records are wrong like this)" if len(wrong) > 1 else ""
        raise DataError(f"{path}, {wrong[0]}{more}.", why='The format is [{"question_id": 1, "answer": "yes"}, ...].')
    if doubled:
        raise DataError(
            f"{path} answers {many(len(set(doubled)), 'question')} more than once (first: question_id {doubled[0]}).",
            why="The challenge's format has each question once.",
        )
    return answers


def write_results(path: str | Path, predictions: Mapping[int, str], split: Split) -> None:
    """Write every question of the split once, in file order; whole or not at all.

    Raises:
        DataError: a question has no prediction.
    """
    missing = [question.id for question in split.questions if question.id not in predictions]
    if missing:
        raise DataError(
            f"{many(len(missing), 'question')} of the split {split.name!r} lack a prediction "
            f"(first: question_id {missing[0]}), so {path} was not written."
        )
    records = [{"question_id": question.id, "answer": predictions[question.id]} for question in split.questions]
    write_text(Path(path), json.dumps(records) + "\n")


def _found(record: dict[str, Any], field: str) -> str:
    return kind_of(record[field]) if field in record else "missing"
