"""Statistics from results files and annotations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from umecache.analysis.evidence import choose_baseline, local, read_document, score_all, with_statistics
from umecache.data.dataset import Split
from umecache.data.results import read_results, write_results
from umecache.data.scoring import score_predictions
from umecache.errors import DataError, UnknownName, UsageError

Finished = tuple[Path, Split]


def test_scores_are_those_of_the_scorer(finished: Finished) -> None:
    folder, split = finished
    document = read_document(folder)
    answered = score_all(document, folder, split)
    assert answered.scores.shape == (4, 3, 36)
    results = read_results(folder / "runs" / "ume" / "seed-1" / "results_val.json")
    official = score_predictions(results, split).per_question
    np.testing.assert_allclose(100 * answered.scores[2, 1], [official[q.id] for q in split.questions])


def test_rows_say_how_sure_they_are(finished: Finished) -> None:
    folder, split = finished
    document = with_statistics(read_document(folder), folder, split, rounds=300)
    for row in document["rows"]:
        low, high = row["interval"]
        assert low < row["mean"] < high
        assert set(row["per_answer_type_interval"]) == {"other", "yes/no"}
    base, best = document["rows"][1], document["rows"][3]
    assert base["method"] == document["statistics"]["baseline"] == "concat" and base["difference"] is None
    difference = best["difference"]
    assert difference["mean"] == pytest.approx(best["mean"] - base["mean"], abs=0.02)
    assert difference["low"] < difference["mean"] < difference["high"]
    assert difference["p"] <= difference["p_holm"] <= 1
    json.dumps(document, allow_nan=False)


def test_bounds_and_agreement(finished: Finished) -> None:
    folder, split = finished
    found = with_statistics(read_document(folder), folder, split, rounds=20)["statistics"]
    assert found["answer_types"] == {"other": 24, "yes/no": 12}
    # A third of the questions has the answer a1, which the vocabulary lacks.
    assert found["oracle"]["vocabulary"] == 66.67
    answered = score_all(read_document(folder), folder, split)
    assert found["oracle"]["any_row"] == pytest.approx(100 * answered.scores.max(0).mean(), abs=0.01)
    codes = answered.codes
    assert found["agreement"][0][2] == pytest.approx(100 * (codes[0] == codes[2]).mean(), abs=0.06)


def test_a_copied_method_does_not_differ(another: Finished) -> None:
    folder, split = another
    for seed in range(3):
        source = folder / "runs" / "concat" / f"seed-{seed}" / "results_val.json"
        shutil.copy(source, folder / "runs" / "ume" / f"seed-{seed}" / "results_val.json")
    document = read_document(folder)
    for one, other in zip(document["rows"][2]["seeds"], document["rows"][1]["seeds"], strict=True):
        one["overall"] = other["overall"]
    difference = with_statistics(document, folder, split, rounds=50)["rows"][2]["difference"]
    assert difference == {"to": "concat", "mean": 0.0, "low": 0.0, "high": 0.0, "p": 1.0, "p_holm": 1.0}


def test_differences_stay_within_a_pair_of_encoders(finished: Finished) -> None:
    folder, split = finished
    document = read_document(folder)
    document["rows"][3]["features"] = {"text": "bert", "image": "beit"}
    rows = with_statistics(document, folder, split, rounds=20)["rows"]
    assert rows[2]["difference"] is not None and rows[3]["difference"] is None


def test_a_moved_comparison_is_read_where_it_lies(another: Finished, tmp_path: Path) -> None:
    folder, split = another
    moved = folder.rename(tmp_path / "moved")
    assert with_statistics(read_document(moved), moved, split, rounds=20)["statistics"]["images"] == 12


@pytest.mark.parametrize("path", ["/etc/passwd", "{folder}/../../secret.json"])
def test_files_outside_the_comparison_are_not_read(finished: Finished, path: str) -> None:
    folder, _ = finished
    with pytest.raises(DataError, match="outside its folder"):
        local(read_document(folder), path.format(folder=folder), folder)


def test_answers_that_are_not_those_of_the_table_are_refused(another: Finished) -> None:
    folder, split = another
    document = read_document(folder)
    file = folder / "runs" / "ume" / "seed-0" / "results_val.json"
    answers = dict.fromkeys(read_results(file), "nothing like it")
    write_results(file, answers, split)
    with pytest.raises(DataError, match=r"scores 0\.00, but compare\.json says"):
        with_statistics(document, folder, split)
    file.write_text(json.dumps([{"question_id": 5, "answer": "x"}]))
    with pytest.raises(DataError, match="does not answer the questions"):
        with_statistics(document, folder, split)


def test_without_annotations_nothing_is_made_up(finished: Finished) -> None:
    folder, split = finished
    bare = Split(split.name, split.folder, split.data_name, split.questions, None, split._index)
    document = with_statistics(read_document(folder), folder, bare)
    assert document["statistics"] is None and "interval" not in document["rows"][0]


def test_files_for_the_challenge_server_are_checked_too(another: Finished) -> None:
    folder, split = another
    bare = Split(split.name, split.folder, split.data_name, split.questions, None, split._index)
    file = folder / "runs" / "ume" / "seed-2" / "results_val.json"
    file.write_text(json.dumps(json.loads(file.read_text())[1:]))
    with pytest.raises(DataError, match="35 answers for 36 questions"):
        with_statistics(read_document(folder), folder, bare)


def test_the_baseline(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"method": name} for name in ("text-only", "product", "concat")]
    assert choose_baseline(rows, None) == "product"
    assert choose_baseline(rows[:1], None) == "text-only"
    assert choose_baseline(rows, "concat") == "concat"
    with pytest.raises(UnknownName):
        choose_baseline(rows, "conct")
    with pytest.raises(UsageError, match="not a comparison"):
        read_document(tmp_path)
    (tmp_path / "compare.json").write_text('{"rows": []}')
    with pytest.raises(DataError, match="no rows"):
        read_document(tmp_path)
