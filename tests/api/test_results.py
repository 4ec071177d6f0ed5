"""Documents with names and types."""

from __future__ import annotations

from pathlib import Path

from umecache.api.results import FuseResult, row_of

SEEDS = [{"seed": 4, "overall": 31.5, "epochs": 2, "results": "r/results_val.json"}]
COMMON = {"method": "ume", "std": 0.5, "seeds": SEEDS, "lr": 1e-3, "parameters": 7, "run": "r"}


def test_a_row_of_fuse() -> None:
    accuracy = {"overall": 31.0, "per_answer_type": {"yes/no": 50.0}, "per_question_type": {"what": 12.0}}
    row = row_of({**COMMON, "accuracy": accuracy}, text="minilm", image=None)
    assert (row.method, row.text, row.image, row.accuracy, row.std) == ("ume", "minilm", None, 31.0, 0.5)
    assert (row.per_answer_type, row.per_question_type) == ({"yes/no": 50.0}, {"what": 12.0})
    assert (row.seeds[0].seed, row.seeds[0].accuracy, row.seeds[0].results) == (4, 31.5, Path("r/results_val.json"))
    assert row.path == Path("r")
    result = FuseResult(Path("r"), (row,), {})
    assert (result.accuracy, result.std) == (31.0, 0.5)


def test_a_row_of_compare_that_is_not_scored() -> None:
    facts = {**COMMON, "std": None, "mean": None, "per_answer_type": None, "per_question_type": None}
    row = row_of({**facts, "text": "a", "image": "b"})
    assert (row.accuracy, row.std, row.per_answer_type) == (None, None, {})
    assert FuseResult(Path("r"), (), {}).accuracy is None
