"""`umecache score`, as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from umecache.cli import app

Run = Callable[..., tuple[int, str, str]]
YES = [{"answer": "yes"}] * 4 + [{"answer": "no"}] * 6


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Exit status, standard output, standard error of one command line, run in an empty folder."""
    monkeypatch.setattr(app, "COMMANDS", {"score": app.COMMANDS["score"]})
    monkeypatch.chdir(tmp_path)

    def call(*argv: str) -> tuple[int, str, str]:
        status = app.run(argv)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four questions of two types; four of ten people say yes, six no."""
    folder = tmp_path / "toy"
    folder.mkdir()
    records = [
        {"question_id": n, "image_id": n, "question": "?", "question_type": f"type {n % 2}", "answer_type": "yes/no"}
        for n in range(1, 5)
    ]
    (folder / "questions_val.json").write_text(json.dumps({"questions": records}))
    annotations = [{**record, "answers": YES} for record in records]
    (folder / "annotations_val.json").write_text(json.dumps({"annotations": annotations}))
    (folder / "questions_test.json").write_text(json.dumps({"questions": records}))
    return folder


def results(*answers: str | None) -> list[dict[str, Any]]:
    return [{"question_id": n, "answer": text} for n, text in enumerate(answers, 1) if text is not None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results("yes", "no", "red", "No.")))
    return path


def test_json(run: Run, data: Path, path: Path) -> None:
    status, out, _ = run("score", str(path), "--data", str(data), "--split", "val", "--json")
    assert status == 0
    assert json.loads(out) == {
        "overall": 75.0,
        "per_answer_type": {"yes/no": 75.0},
        "per_question_type": {"type 1": 50.0, "type 0": 100.0},
        "questions": 4,
        "missing": 0,
        "protocol": "official-2021",
    }


def test_words(run: Run, data: Path, path: Path) -> None:
    status, out, err = run("score", "results.json", "--data", "toy")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "75.00 % (official-2021, 4 questions)"
    assert "  type 1   50.00" in out.splitlines()


def test_per_question(run: Run, data: Path, path: Path) -> None:
    status, _, _ = run("score", str(path), "--data", str(data), "--per-question", "deep/scores.json", "--json")
    assert status == 0
    assert json.loads(Path("deep/scores.json").read_text()) == {"1": 100.0, "2": 100.0, "3": 0.0, "4": 100.0}


def test_protocols(run: Run, data: Path, path: Path) -> None:
    path.write_text(json.dumps(results("yes", "no", "YES", "no")))
    for protocol in ("official-2021", "official-2016", "thesis"):
        document = json.loads(run("score", str(path), "--data", str(data), "--protocol", protocol, "--json")[1])
        assert document["protocol"] == protocol
    status, _, err = run("score", str(path), "--data", str(data), "--protocol", "official")
    assert status == 2 and "Unknown protocol 'official'" in err


def test_missing_questions(run: Run, data: Path, path: Path) -> None:
    path.write_text(json.dumps(results("yes", None, None, "no")))
    status, out, err = run("score", str(path), "--data", str(data))
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {path} misses 2 of the 4 questions") and "--allow-missing" in err
    assert len(err.splitlines()) == 1
    status, out, _ = run("score", str(path), "--data", str(data), "--allow-missing", "--json")
    document = json.loads(out)
    assert (status, document["overall"], document["missing"], document["questions"]) == (0, 50.0, 2, 4)
    assert "2 of them missing and scored 0" in run("score", str(path), "--data", str(data), "--allow-missing")[1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "must hold one list"),
        ("[", "no proper JSON"),
        (results("yes", "no", "a", "b") + results("no"), "answers 1 question more than once (first: question_id 1)"),
        (results(*"abcdef"), "answers 2 questions that the split 'val'"),
        ([{"question_id": "1", "answer": "yes"}], 'record 1: question_id is the string "1"'),
        ([{"question_id": True, "answer": "yes"}], "record 1: question_id is true"),
        ([{"question_id": 1, "answer": 3}], "answer is 3"),
        (float("nan"), "must hold one list"),
        ([{"question_id": 1, "answer": float("nan")}], "NaN is not a JSON number"),
    ],
)
def test_bad_results_are_one_line_and_status_2(run: Run, data: Path, path: Path, content: Any, says: str) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    status, out, err = run("score", str(path), "--data", str(data))
    assert (status, out) == (2, "")
    assert says in err and str(path) in err and len(err.splitlines()) == 1
    status, out, err = run("score", str(path), "--data", str(data), "--json")
    assert (status, err) == (2, "")
    error = json.loads(out)["error"]
    assert set(error) == {"what", "why", "next"} and says in error["what"]


def test_mistakes(run: Run, data: Path, path: Path) -> None:
    for argv, says in (
        (["nothing.json", "--data", "toy"], "no such file"),
        (["toy", "--data", "toy"], "is a folder"),
        (["results.json", "--data", "elsewhere"], "There is no data folder"),
        (["results.json"], "umecache data get vqa-v2"),
        (["results.json", "--data", "toy", "--split", "vla"], "Did you mean 'val'?"),
        (["results.json", "--data", "toy", "--split", "test"], "no annotations to score against"),
        (["results.json", "--data", "toy", "--per-question", "./results.json"], "names the results file itself"),
    ):
        status, out, err = run("score", *argv)
        assert (status, out) == (2, "") and says in err, argv
    assert json.loads(path.read_text())  # the results are still there
    status, _, err = run("score", "results.json", "--data", "toy", "--per-question", "toy")
    assert status == 1 and "toy can't be written" in err


def test_help_has_an_example(run: Run) -> None:
    status, out, _ = run("score", "--help")
    assert status == 0 and "umecache score results.json --data vqa-v2 --split val" in out
    for option in ("--data", "--split", "--protocol", "--per-question", "--allow-missing", "--json"):
        assert option in out


@pytest.mark.shared
def test_the_official_figures(run: Run, shared: Path, path: Path) -> None:
    case = json.loads((shared / "eval" / "mini-val-result-and-scores.json").read_text())
    path.write_text(json.dumps(case["results"]))
    status, out, _ = run("score", str(path), "--data", str(shared / "data" / "vqa-v2-mini"), "--json")
    document = json.loads(out)
    assert status == 0 and document["overall"] == case["accuracy"]["overall"]
    assert document["per_answer_type"] == case["accuracy"]["perAnswerType"]
    assert document["per_question_type"] == case["accuracy"]["perQuestionType"]
