"""Means over seeds, and names of files."""

from __future__ import annotations

import statistics
from types import SimpleNamespace
from typing import Any

import pytest

from umecache.data.scoring import Scores
from umecache.training.outcome import accuracy_of, file_name, mean_std, score_facts


def scores(overall: float) -> Scores:
    return Scores(overall, {"other": overall + 1}, {"what": overall - 1}, 10, 0, {})


def test_the_spread_is_the_sample_standard_deviation() -> None:
    values = [40.0, 41.0, 43.5]
    assert mean_std(values) == (41.5, round(statistics.stdev(values), 2))
    assert mean_std([41.234]) == (41.23, 0.0)


def test_accuracies_are_means_over_seeds() -> None:
    results: Any = [SimpleNamespace(scores=scores(value)) for value in (40.0, 41.0)]
    assert accuracy_of(results) == {
        "overall": 40.5,
        "per_answer_type": {"other": 41.5},
        "per_question_type": {"what": 39.5},
    }


def test_what_can_t_be_scored_is_none() -> None:
    unscored: Any = [SimpleNamespace(scores=None)]
    assert accuracy_of(unscored) is None
    assert score_facts(None) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ume-res", "ume-res"), ("./mine.py:Mine", "mine.py-Mine"), ("hf:org/name", "hf-org-name"), ("../x", "x")],
)
def test_names_of_files(name: str, expected: str) -> None:
    assert file_name(name) == expected
