"""Heterogeneity against plain references, and cases whose answer is known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from umecache.analysis.heterogeneity import (
    NAMES,
    Tokens,
    _intervals,
    effective_rank,
    linear_cka,
    measure_rows,
    measures,
    modality_gap,
    probe_accuracy,
    stages,
    student,
    token_spread,
)
from umecache.analysis.inputs import open_inputs
from umecache.data.dataset import open_dataset
from umecache.training.model import build_model
from umecache.training.runs import load_run

RNG = np.random.default_rng(0)


def test_gap() -> None:
    a, b = RNG.normal(size=(400, 3)), RNG.normal(size=(400, 3))
    assert modality_gap(a, a) == 0
    far = modality_gap(a, b + np.array([7, 0, 0]))
    within = [np.mean([np.sum((x - z.mean(0)) ** 2) for x in z]) for z in (a, b)]
    apart = np.linalg.norm(a.mean(0) - (b + np.array([7, 0, 0])).mean(0))
    assert far == pytest.approx(apart / np.sqrt(np.mean(within)))
    assert modality_gap(5 * a, 5 * (b + np.array([7, 0, 0]))) == pytest.approx(far), "no unit"


def plain_hsic(k: Any, k2: Any) -> float:
    """Song et al.'s U-statistic as a sum over four different questions."""
    n, total, count = len(k), 0.0, 0
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total += k[i, j] * (k2[i, j] + k2[q, r] - 2 * k2[i, q])
                        count += 1
    return total / count


def test_cka_against_the_u_statistic() -> None:
    x, y = RNG.normal(size=(7, 4)), RNG.normal(size=(7, 3))
    y[:, 0] += x[:, 0]
    k, k2 = x @ x.T, y @ y.T
    expected = plain_hsic(k, k2) / np.sqrt(plain_hsic(k, k) * plain_hsic(k2, k2))
    assert linear_cka(x, y) == pytest.approx(expected)


def test_cka_of_known_cases() -> None:
    x = RNG.normal(size=(60, 100))
    turn = np.linalg.qr(RNG.normal(size=(100, 100)))[0]
    assert linear_cka(x, 3 * x @ turn + 5) == pytest.approx(1)
    unrelated = [linear_cka(RNG.normal(size=(60, 100)), RNG.normal(size=(60, 100))) for _ in range(20)]
    assert abs(np.mean(unrelated)) < 0.03, "not biased where vectors are wider than they are many"
    assert np.isnan(linear_cka(x[:3], x[:3])) and np.isnan(linear_cka(np.ones((9, 2)), x[:9]))


def test_probe() -> None:
    images = np.repeat(np.arange(100), 4)
    a, b = RNG.normal(size=(400, 5)), RNG.normal(size=(400, 5))
    assert probe_accuracy(a, b + np.array([9, 0, 0, 0, 0]), images, images) > 99
    assert probe_accuracy(a, b, images, images) == pytest.approx(50, abs=8)
    # What an image's tokens share is no help with other images.
    code = RNG.normal(size=(100, 5))[images]
    assert probe_accuracy(a + 20 * code, b - 20 * code, images, images) == pytest.approx(50, abs=12)
    assert np.isnan(probe_accuracy(a, b, np.zeros(400, int), np.zeros(400, int)))
    assert np.isfinite(probe_accuracy(np.zeros((400, 5)), b, images, images))


def test_effective_rank() -> None:
    assert effective_rank(np.eye(6)) == pytest.approx(6)
    assert effective_rank(np.ones((50, 6))) == pytest.approx(1, abs=1e-6)
    values = np.array([3.0, 2.0, 1.0])
    p = values / values.sum()
    assert effective_rank(np.diag(values)) == pytest.approx(np.exp(-np.sum(p * np.log(p))))
    assert effective_rank(np.zeros((3, 2))) == 0


def test_spread() -> None:
    assert token_spread(np.ones((9, 4))) == 0
    assert token_spread(np.array([[1.0, 1.0], [1.0, -1.0]])) == pytest.approx(1)


def tokens(values: Any, per: int = 4) -> Tokens:
    images = np.repeat(np.arange(len(values) // per), per)
    return Tokens(values, images, values.reshape(-1, per, values.shape[1]).mean(1))


def test_one_modality_has_no_gap() -> None:
    told = measures({"text": tokens(RNG.normal(size=(80, 4)))})
    assert all(np.isnan(told[name]) for name in ("gap", "cka", "probe")) and told["rank"] > 3


def test_pairs_are_averaged_and_counts_are_equal() -> None:
    parts = {name: tokens(RNG.normal(size=(n, 4)) + np.array([shift, 0, 0, 0])) for name, n, shift in
             (("text", 80, 0), ("image", 400, 6), ("audio", 80, 0))}  # fmt: skip
    for name in parts:
        parts[name] = dataclasses.replace(parts[name], pooled=parts[name].pooled[:20])
    told = measures(parts)
    assert 50 < told["probe"] < 95 and 1 < told["gap"] < 3
    assert set(told) == set(NAMES)


# Runs


def test_stages_of_methods(sample_run: SimpleNamespace) -> None:
    run = load_run(sample_run.path)
    inputs = open_inputs(run)
    questions = inputs.split.questions[:40]
    assert set(stages(run, inputs, questions)) == {"before"}, "pooled methods have no tokens after"
    for method in ("attention", "ume-res", "mcan"):
        asked = run.facts["model"]
        model = build_model(method, dims=asked["dims"], classes=len(run.vocab.answers), width=16, dropout=0.0).eval()
        found = stages(dataclasses.replace(run, model=model), inputs, questions)
        assert set(found) == {"before", "after"}
        for stage in found.values():
            assert list(stage) == ["text", "image"]
            assert stage["image"].values.shape == (40 * 8, 16) and stage["text"].pooled.shape == (40, 16)
            assert set(stage["image"].images) == {question.image_id for question in questions}
        features = inputs.gather(questions)
        expected = model.fusion.project(features)[1][0].detach().mean(1)  # type: ignore[operator, union-attr]
        np.testing.assert_allclose(found["before"]["image"].pooled, expected, rtol=1e-4, atol=1e-5)
        joint = model.fusion.joint_tokens(features)
        assert joint is not None
        np.testing.assert_allclose(
            found["after"]["image"].pooled, joint["image"][0].detach().mean(1), rtol=1e-4, atol=1e-5
        )


def comparison(sample_run: SimpleNamespace) -> tuple[dict[str, Any], Path]:
    folder = sample_run.path.parent / "comparison"
    seeds = [{"seed": k, "results": str(folder / "runs" / "concat" / f"seed-{k}" / "results_val.json")} for k in (0, 1)]
    if not folder.exists():
        (folder / "runs").mkdir(parents=True)
        (folder / "runs" / "concat").symlink_to(sample_run.path)
    row = {"method": "concat", "text": "t", "image": "i", "lr": 1e-3, "seeds": seeds}
    return {"rows": [row], "report": str(folder / "report.md")}, folder


def test_rows_of_a_comparison(sample_run: SimpleNamespace) -> None:
    document, folder = comparison(sample_run)
    split = open_dataset(sample_run.data).split("val")
    found = measure_rows(document, folder, split, sample=30)
    assert found is not None and found["questions"] == 30
    [row] = found["rows"]
    assert row["row"] == "concat" and row["after"] is None
    assert row["before"]["probe"] > 90 and row["before"]["gap"] > 0, "projections of two encoders are told apart"
    low, high = row["interval"]["before"]["gap"]
    assert low <= row["before"]["gap"] <= high and row["interval"]["after"] is row["seeds"]["after"] is None
    assert [set(seed) for seed in row["seeds"]["before"]] == [set(NAMES)] * 2
    assert json.loads(json.dumps(found, allow_nan=False)) == found == measure_rows(document, folder, split, sample=30)
    assert measure_rows(document, folder, split, sample=0) is None


@pytest.mark.parametrize("freedom", [1, 2, 9, 10, 15, 40, 1000])
def test_students_quantile_is_that_of_scipy(freedom: int) -> None:
    assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)


def test_intervals_are_students_over_seeds() -> None:
    values = np.array([11.0, 12.0, 14.0])
    found = _intervals([dict.fromkeys(NAMES, value) | {"cka": float("nan")} for value in values])
    expected = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert found["gap"] == pytest.approx(expected, abs=1e-3) and found["cka"] is None
    assert _intervals([dict.fromkeys(NAMES, 1.0)])["gap"] is None
    wide = _intervals([dict.fromkeys(NAMES, value) for value in (0.1, 0.9)])
    assert wide["gap"][0] == 0 and wide["cka"][1] == 1 and wide["cka"][0] < -1, "cut to what can be"  # type: ignore[index]


def test_what_is_gone_is_said(sample_run: SimpleNamespace, tmp_path: Path) -> None:
    document, _ = comparison(sample_run)
    split = open_dataset(sample_run.data).split("val")
    found = measure_rows(document, tmp_path, split)
    assert found is not None and "no run" in found["unavailable"]
