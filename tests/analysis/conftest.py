"""Documents and pictures for the tests of tables, plots and panels."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from umecache.data.dataset import Split, open_dataset
from umecache.data.results import write_results
from umecache.data.scoring import score_predictions

Row = dict[str, Any]
METHODS_SHOWN = ("text-only", "concat", "ume", "ume-res")
STORES = [
    {
        "name": name,
        "model": model,
        "dim": dim,
        "stores": {split: {"path": f"/stores/{model}/{split}", "fingerprint": 64 * mark} for split in ("train", "val")},
    }
    for name, model, dim, mark in (("text", "bert", 384, "a"), ("image", "vit", 1280, "b"))
]


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


EVIL = "<script>alert(1)</script>"


def write_comparison(folder: Path, *, images: int = 12, methods: Sequence[str] = METHODS_SHOWN) -> tuple[Path, Split]:
    """A finished comparison on disk, with data of three questions per image, as `umecache compare` leaves it.

    Every method is right with a chance of its own; the wrong answer is a piece of HTML.
    """
    data, out = folder / "data", folder / "comparison"
    (data / "images").mkdir(parents=True)
    questions = [
        {"question_id": 10 * image + k, "image_id": image, "question": f"what is {k} & <b>?"}
        for image in range(1, images + 1)
        for k in range(3)
    ]
    told = [
        {
            "question_id": each["question_id"],
            "image_id": each["image_id"],
            "answers": [{"answer": f"a{each['question_id'] % 2}", "answer_id": n + 1} for n in range(10)],
            "multiple_choice_answer": f"a{each['question_id'] % 2}",
            "question_type": ["what is", "is <it>"][each["question_id"] % 2],
            "answer_type": ["other", "yes/no"][each["question_id"] % 2],
        }
        for each in questions
    ]
    (data / "questions_val.json").write_text(json.dumps({"questions": questions}))
    (data / "annotations_val.json").write_text(json.dumps({"annotations": told}))
    split = open_dataset(data).split("val")
    rng = np.random.default_rng(0)
    rows = []
    for place, method in enumerate(methods):
        seeds = []
        for seed in range(3):
            run = out / "runs" / method / f"seed-{seed}"
            run.mkdir(parents=True)
            right = rng.random(len(questions)) < 0.3 + 0.1 * place
            answers = {
                each["question_id"]: f"a{each['question_id'] % 2}" if hit else EVIL
                for each, hit in zip(questions, right, strict=True)
            }
            write_results(run / "results_val.json", answers, split)
            (run / "history.csv").write_text("epoch,loss,lr,held_out\n1,2.5,0.001,\n2,1.25,0,\n")
            vocab = {"format": 1, "answers": ["a0", EVIL], "counts": [2, 1], "questions": 4, "coverage": 0.75,
                     "definition": "made up"}  # fmt: skip
            (run / "run.json").write_text(json.dumps({"vocabulary": vocab, "features": STORES}))
            overall = score_predictions(answers, split).overall
            results = str(run / "results_val.json")
            seeds.append({"seed": seed, "overall": overall, "epochs": 2, "best_epoch": 2, "results": results})
        done = row(method, *(seed["overall"] for seed in seeds), features={"text": "bert", "image": "vit"})
        rows.append(
            done
            | {
                "seeds": seeds,
                "run": str(out / "runs" / method),
                "missing_inputs": {"text": 0, "image": 3},
                "per_answer_type": {"other": 40.0, "yes/no": 50.0},
                "per_question_type": {"what is": 40.0, "is <it>": 50.0},
                "tokens": {"text": 12, "image": 49},
                "dims": {"text": 384, "image": 1280},
            }
        )
    document = {
        "rows": rows,
        "report": str(out / "report.md"),
        "table": str(out / "table.csv"),
        "data": "made-up",
        "train_split": "train",
        "eval_split": "val",
        "protocol": "official-2021",
        "questions": {
            "train": 90, "trained_on": 80, "skipped_out_of_vocabulary": 10, "eval": len(questions),
            "eval_out_of_vocabulary": 18,
        },
        "vocabulary": {"classes": 2, "coverage": 75.0, "definition": "made up"},
        "baselines": {"majority_answer": EVIL, "majority": 17.2, "majority_per_question": 38.9},
        "recipe": None,
        "notes": ["A remark with <b>brackets</b>."],
        "asked": {"data": str(data), "limit": None, "width": 256, "batch_size": 64, "lr": 1e-3, "method_args": {}},
        "versions": {"python": "3.11", "umecache": "0.1.0"},
        "device": "cpu",
        "seconds_total": 12.5,
    }  # fmt: skip
    (out / "compare.json").write_text(json.dumps(document))
    return out, split


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Split]:
    """A comparison that nobody writes into, and its eval split."""
    return write_comparison(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def another(tmp_path: Path) -> tuple[Path, Split]:
    """One to change."""
    return write_comparison(tmp_path)


@pytest.fixture(scope="session")
def make_comparison() -> Callable[..., tuple[Path, Split]]:
    """Makes one in a folder."""
    return write_comparison
