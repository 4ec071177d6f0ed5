"""Results files: what the challenge takes is read, anything else is refused with file, record and count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from umecache.data.dataset import open_dataset
from umecache.data.results import read_results, write_results
from umecache.errors import DataError, JobFailed


@given(st.dictionaries(st.integers(0, 2**63 - 1), st.text(max_size=10), max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reads_what_json_wrote(tmp_path: Path, answers: dict[int, str]) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"question_id": key, "answer": value} for key, value in answers.items()]))
    assert list(read_results(path).items()) == list(answers.items())


def test_other_fields_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('[{"answer": "yes", "confidence": 0.7, "question_id": 4}]')
    assert read_results(str(path)) == {4: "yes"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"1": "yes"}', "must hold one list"),
        ('{"results": []}', "must hold one list"),
        ('[["yes", 1]]', "record 1: an object is expected, not a list"),
        ('[{"question_id": "1", "answer": "a"}]', 'record 1: question_id is the string "1"; a whole number'),
        ('[{"question_id": true, "answer": "a"}]', "record 1: question_id is true"),
        ('[{"question_id": 1.0, "answer": "a"}]', "record 1: question_id is 1.0"),
        ('[{"question_id": null, "answer": "a"}]', "record 1: question_id is null"),
        ('[{"question_id": -3, "answer": "a"}]', "record 1: question_id is -3"),
        ('[{"question_id": 1e400, "answer": "a"}]', "record 1: question_id is Infinity"),
        ('[{"question_id": 99999999999999999999, "answer": "a"}]', "record 1: question_id is 99999999999999999999"),
        ('[{"answer": "a"}]', "record 1: question_id is missing"),
        ('[{"question_id": 1}]', r"record 1 \(question_id 1\): answer is missing; a string"),
        ('[{"question_id": 1, "answer": 2}]', "answer is 2; a string"),
        ('[{"question_id": 1, "answer": null}]', "answer is null"),
        ('[{"question_id": 1, "answer": ["a"]}]', "answer is a list"),
        ('[{"question_id": 1, "answer": NaN}]', "NaN is not a JSON number"),
        ('[{"question_id": Infinity, "answer": "a"}]', "Infinity is not a JSON number"),
        ('[{"question_id": 1, "answer": "a"},]', "no proper JSON: record 2"),
        ('[{"question_id": 1, "answer": "a"', "no proper JSON: record 1"),
    ],
)
def test_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        read_results(path)
    assert str(path) in caught.value.what
    assert caught.value.exit_status == 2


def test_wrong_records_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    records = [{"question_id": n if n % 3 else str(n), "answer": "a"} for n in range(1, 31)]
    path.write_text(json.dumps(records))
    with pytest.raises(DataError, match=r'record 3: question_id is the string "3".*10 records are wrong'):
        read_results(path)


def test_doubled_questions_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"question_id": n % 7, "answer": "a"} for n in range(10)] * 2))
    with pytest.raises(DataError, match=r"answers 7 questions more than once \(first: question_id 0\)"):
        read_results(path)


def test_written_once_each_in_file_order(tmp_path: Path, write_folder: Callable[..., Path]) -> None:
    split = open_dataset(write_folder(val=3)).split("val")
    path = tmp_path / "deep" / "results.json"
    write_results(path, {3: "é\ud800", 2: "b", 1: "a", 99: "not of this split"}, split)
    assert json.loads(path.read_text()) == [
        {"question_id": 1, "answer": "a"},
        {"question_id": 2, "answer": "b"},
        {"question_id": 3, "answer": "é\ud800"},
    ]
    assert read_results(path) == {1: "a", 2: "b", 3: "é\ud800"}


def test_not_written_where_a_question_has_no_prediction(tmp_path: Path, write_folder: Callable[..., Path]) -> None:
    split = open_dataset(write_folder(val=3)).split("val")
    path = tmp_path / "results.json"
    with pytest.raises(DataError, match=r"2 questions .* lack a prediction \(first: question_id 1\)"):
        write_results(path, {2: "b"}, split)
    assert not path.exists()
    path.mkdir()
    with pytest.raises(JobFailed, match="can't be written"):
        write_results(path, {1: "a", 2: "b", 3: "c"}, split)
