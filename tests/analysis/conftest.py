"""Documents and pictures for the tests of tables, plots and panels."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import pytest

Row = dict[str, Any]


def row(method: str, *scores: float, text: str = "bert", image: str = "vit", **changed: Any) -> Row:
    """A comparison's row with these scores, one per seed."""
    return {
        "method": method,
        "text": text,
        "image": image,
        "mean": round(statistics.fmean(scores), 2) if scores else None,
        "std": round(statistics.stdev(scores), 2) if len(scores) > 1 else 0.0 if scores else None,
        "seeds": [{"seed": k, "overall": score, "epochs": 3} for k, score in enumerate(scores)],
        "per_answer_type": {"yes/no": 60.0, "number": 30.0, "other": 20.0},
        "lr": 1e-3,
        "parameters": 12_345,
        "seconds": 1.5,
        "source": None,
        **changed,
    }


@pytest.fixture
def document() -> Callable[..., dict[str, Any]]:
    """Makes a comparison's document of rows."""

    def make(*rows: Row, **changed: Any) -> dict[str, Any]:
        return {
            "rows": list(rows),
            "data": "sample",
            "eval_split": "val",
            "protocol": "official-2021",
            "baselines": {"majority_answer": "yes", "majority": 17.2, "majority_per_question": 38.9},
            **changed,
        }

    return make
