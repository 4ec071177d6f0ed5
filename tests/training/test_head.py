"""One head: its loss, schedule, random state, early stopping."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
import torch

from umecache.errors import JobFailed
from umecache.training.config import FuseConfig
from umecache.training.head import Head, HeadSpec, loss_of, rate_factor

CPU = torch.device("cpu")
DIMS = {"text": 6, "image": 10}


def batch(size: int = 4, scale: float = 1.0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return {
        name: (scale * torch.randn(size, 3, dim, generator=generator), torch.ones(size, 3, dtype=torch.bool))
        for name, dim in DIMS.items()
    }


def head(seed: int = 0, lr: float = 1e-2, steps: int = 100, method: str = "concat", **settings: object) -> Head:
    config = FuseConfig(width=8, epochs=10, **settings)  # type: ignore[arg-type]
    return Head(HeadSpec(method=method, seed=seed, lr=lr), config, dims=DIMS, classes=3, steps=steps, device=CPU)


def weights(one: Head) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in one.model.parameters()])


def test_cross_entropy_on_classes() -> None:
    logits_BC = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2
    assert loss_of(logits_BC, torch.tensor([0, 0])).item() == pytest.approx(expected)


def test_binary_cross_entropy_on_soft_scores_sums_classes_and_averages_questions() -> None:
    logits_BC = torch.tensor([[2.0, 0.0], [0.0, -1.0]])
    soft_BC = torch.tensor([[1.0, 0.3], [0.0, 0.6]])

    def one(logit: float, target: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -target * math.log(p) - (1 - target) * math.log(1 - p)

    expected = (one(2, 1) + one(0, 0.3) + one(0, 0) + one(-1, 0.6)) / 2
    assert loss_of(logits_BC, soft_BC).item() == pytest.approx(expected)


def test_the_rate_rises_and_falls() -> None:
    factors = [rate_factor(step, 100, warmup=0.1, schedule="cosine") for step in range(101)]
    assert 0 < factors[0] < factors[5] < factors[10] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)
    assert [rate_factor(step, 100, warmup=0.0, schedule="constant") for step in (0, 50, 99)] == [1.0, 1.0, 1.0]


def test_seeds_decide_the_weights_and_nothing_outside_does() -> None:
    torch.manual_seed(1)
    first = weights(head(seed=3))
    torch.manual_seed(2)
    assert torch.equal(weights(head(seed=3)), first)
    assert not torch.equal(weights(head(seed=4)), first)


def test_a_head_leaves_torch_s_generator_as_it_was() -> None:
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    one = head(dropout=0.5)
    one.step(batch(), torch.tensor([0, 1, 2, 0]))
    one.predict(batch())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("loss", ["ce", "soft"])
def test_a_head_learns(optimizer: str, loss: str) -> None:
    one = head(optimizer=optimizer, dropout=0.0, schedule="constant", warmup=0.0)
    target = torch.tensor([0, 1, 2, 0])
    soft = torch.nn.functional.one_hot(target, 3).float()
    for _ in range(60):
        one.step(batch(), target if loss == "ce" else soft)
    one.end_epoch()
    assert one.predict(batch()).tolist() == target.tolist()
    assert one.history[0].epoch == 1
    assert one.history[0].loss < (1.2 if loss == "ce" else 2.2)


def test_weight_decay_is_decoupled_only_in_adamw() -> None:
    def shrink(optimizer: str) -> float:
        one = head(optimizer=optimizer, weight_decay=1.0, dropout=0.0, schedule="constant", warmup=0.0, clip=0.0)
        before = weights(one).norm().item()
        for _ in range(20):
            one.step(batch(scale=0.0), torch.tensor([0, 1, 2, 0]))
        return weights(one).norm().item() / before

    assert shrink("adamw") != pytest.approx(shrink("adam"), rel=1e-3)


def test_the_gradient_s_norm_is_clipped() -> None:
    moved = {}
    for clip in (0.0, 1e-12):
        one = head(clip=clip, dropout=0.0, weight_decay=0.0)
        before = weights(one)
        one.step(batch(), torch.tensor([0, 1, 2, 0]))
        moved[clip] = (weights(one) - before).abs().max().item()
    # Adam divides by the gradient's size, but not below its epsilon of 1e-8.
    assert moved[1e-12] < 0.01 * moved[0.0]


def test_early_stopping_keeps_the_best_epoch() -> None:
    one = head(patience=2)
    kept = None
    for score in (10.0, 30.0, 20.0, 30.0):
        assert not one.finished
        one.step(batch(), torch.tensor([0, 1, 2, 0]))
        one.end_epoch()
        one.tell_score(score)
        if score == 30.0 and kept is None:
            kept = weights(one)
    assert one.finished  # two epochs without a better score; an equal one is not better
    assert one.best_epoch == 2
    one.close()
    assert kept is not None and torch.equal(weights(one), kept)
    assert one.held_out == 30.0
    assert [epoch.held_out for epoch in one.history] == [10.0, 30.0, 20.0, 30.0]


def test_without_patience_the_last_epoch_counts() -> None:
    one = head()
    for score in (30.0, 10.0):
        one.step(batch(), torch.tensor([0, 1, 2, 0]))
        one.end_epoch()
        one.tell_score(score)
    last = weights(one)
    one.close()
    assert torch.equal(weights(one), last)
    assert (one.best_epoch, one.held_out, one.finished) == (2, 10.0, False)


def test_a_loss_that_is_not_finite_names_the_head_and_a_way_out() -> None:
    one = head(seed=7, lr=0.5)
    one.step(batch(scale=math.nan), torch.tensor([0, 1, 2, 0]))
    one.end_epoch()
    assert isinstance(one.failure, JobFailed)
    assert one.failure.exit_status == 1
    assert "concat, seed 7, lr 0.5" in one.failure.what
    assert "--lr" in one.failure.next
    assert one.finished
    assert one.held_out is None


def test_weights_that_broke_in_the_last_step_are_noticed() -> None:
    one = head()
    one.step(batch(), torch.tensor([0, 1, 2, 0]))
    one.end_epoch()
    assert one.failure is None
    with torch.no_grad():
        one.model.classifier.weight[0, 0] = math.inf
    one.close()
    assert one.failure is not None


TARGET = torch.tensor([0, 1, 2, 0])


def part(features: dict[str, tuple[torch.Tensor, torch.Tensor]], rows: slice) -> dict[str, tuple[Any, Any]]:
    return {name: (tokens[rows], mask[rows]) for name, (tokens, mask) in features.items()}


def test_parts_of_a_batch_make_the_whole_batch_s_step() -> None:
    whole, parts = (head(dropout=0.0) for _ in range(2))
    for _ in range(3):
        whole.step(batch(), TARGET)
        for rows, share, update in ((slice(0, 3), 0.75, False), (slice(3, 4), 0.25, True)):
            parts.step(part(batch(), rows), TARGET[rows], weight=share, update=update)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-4, atol=1e-6)
    for one in (whole, parts):
        one.end_epoch()
    assert whole.history[0].lr == parts.history[0].lr  # both have made three steps


def test_averaged_weights_answer_and_are_kept() -> None:
    one = head(dropout=0.0, ema=0.5, schedule="constant", warmup=0.0)
    plain = head(dropout=0.0, schedule="constant", warmup=0.0)
    expected = weights(one)
    for step in range(4):
        one.step(batch(), TARGET)
        plain.step(batch(), TARGET)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights(plain)
    assert torch.equal(weights(one), weights(plain))  # the average doesn't touch what is trained
    before = one.predict(batch())
    one.end_epoch()
    one.close()
    torch.testing.assert_close(weights(one), expected)
    assert torch.equal(one.predict(batch()), before)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("method", ["concat", "ume"])
def test_reduced_precision_learns_with_weights_in_float32(precision: str, method: str) -> None:
    one = head(method=method, precision=precision, dropout=0.0, schedule="constant", warmup=0.0, lr=2e-2)
    for _ in range(60):
        one.step(batch(), TARGET)
    one.end_epoch()
    assert one.failure is None and one.predict(batch()).tolist() == TARGET.tolist()
    assert {weight.dtype for weight in one.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("settings", [{}, {"ema": 0.9, "patience": 5}, {"precision": "float16"}])
def test_a_head_goes_on_from_its_state_bit_for_bit(settings: dict[str, Any]) -> None:
    settings = {"dropout": 0.5, **settings}

    def train(one: Head, steps: int) -> None:
        for _ in range(steps):
            one.step(batch(), TARGET)

    through, first = head(**settings), head(**settings)
    for one in (through, first):
        train(one, 3)
        one.end_epoch()
        one.tell_score(20.0)
        train(one, 2)
    tensors, facts = first.state()
    kept = {name: value.clone() for name, value in tensors.items()}
    second = head(**settings)
    second.load_state(kept, json.loads(json.dumps(facts)))
    for one in (through, second):
        train(one, 4)
        one.end_epoch()
        one.tell_score(10.0)
        one.close()
    assert torch.equal(weights(second), weights(through))
    assert second.history == through.history and second.best_epoch == through.best_epoch
    again = head(**settings)
    again.load_state(*second.state())
    again.close()  # it is closed already: nothing changes
    assert again.closed and torch.equal(weights(again), weights(through)) and again.best_epoch == second.best_epoch


def test_a_failure_is_remembered() -> None:
    one, other = head(seed=7), head(seed=7)
    one.step(batch(scale=math.nan), TARGET)
    one.end_epoch()
    other.load_state(*one.state())
    assert other.finished and other.failure is not None and one.failure is not None
    assert other.failure.as_json() == one.failure.as_json()
