"""Stacked heads: the numbers of heads alone, their own stopping, clipping, averages and checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from umecache.errors import JobFailed
from umecache.reporting import Silent
from umecache.training.compare import compare
from umecache.training.config import CompareConfig, FuseConfig
from umecache.training.head import Head, HeadSpec
from umecache.training.stack import Stack, Steps

CPU = torch.device("cpu")
DIMS = {"text": 6, "image": 10}
TARGET = torch.tensor([0, 1, 2, 0])


class Heard(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def batch(number: int, broken: bool = False) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(number)
    mask = torch.ones(4, 3, dtype=torch.bool)
    mask[1, 2] = mask[3, 1:] = False
    scale = float("nan") if broken else 1.0
    return {name: (scale * torch.randn(4, 3, dim, generator=generator), mask) for name, dim in DIMS.items()}


def heads(method: str = "concat", seeds: int = 3, **settings: Any) -> list[Head]:
    config = FuseConfig(**{"width": 8, "epochs": 10, "dropout": 0.0, **settings})  # type: ignore[arg-type]
    # Rates may differ inside a stack: every head keeps its own optimizer.
    specs = [HeadSpec(method=method, seed=seed, lr=1e-3 * (1 + seed)) for seed in range(seeds)]
    return [Head(spec, config, dims=DIMS, classes=3, steps=20, device=CPU) for spec in specs]


def train(steps: Steps, some: list[Head], count: int = 6, first: int = 0, broken: bool = False) -> None:
    for number in range(first, first + count):
        steps(some, batch(number, broken), TARGET, weight=1.0, update=True)


def weights(one: Head) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in one.model.parameters()])


def assert_same(some: list[Head], others: list[Head]) -> None:
    for one, other in zip(some, others, strict=True):
        torch.testing.assert_close(weights(one), weights(other), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["text-only", "concat", "product", "mutan", "mcb", "gmu", "tfn"])
def test_stacked_heads_are_the_heads_alone_within_rounding(method: str) -> None:
    said = Heard()
    together, alone = heads(method), heads(method)
    started = [weights(one).clone() for one in together]
    train(Steps(stack=True, reporter=said), together)
    train(Steps(stack=False), alone)
    assert not said.lines
    assert_same(together, alone)
    for one, other, before in zip(together, alone, started, strict=True):
        assert not torch.equal(weights(one), before)
        one.end_epoch(), other.end_epoch()
        assert one.history[0].loss == pytest.approx(other.history[0].loss, rel=1e-5)
        assert one.history[0].lr == other.history[0].lr
        assert one.seconds > 0


@pytest.mark.parametrize(
    "settings", [{"clip": 1e-3}, {"ema": 0.9}, {"precision": "bfloat16"}, {"precision": "float16"}, {"loss": "soft"}]
)
def test_what_a_head_does_with_its_gradient_stays_its_own(settings: dict[str, Any]) -> None:
    together, alone = heads(**settings), heads(**settings)
    for some, stack in ((together, True), (alone, False)):
        train(Steps(stack=stack), some)
        for one in some:
            one.end_epoch()
            one.close()
    tolerance = 2e-2 if "precision" in settings else 1e-4
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(weights(one), weights(other), rtol=tolerance, atol=tolerance)
        assert one.predict(batch(0)).tolist() == other.predict(batch(0)).tolist()


def test_several_batches_make_one_step() -> None:
    together, alone = heads(), heads()
    for some, steps in ((together, Steps(stack=True)), (alone, Steps(stack=False))):
        for number in range(6):
            steps(some, batch(number), TARGET, weight=0.5, update=number % 2 == 1)
    assert_same(together, alone)


def test_a_head_that_has_stopped_stays_as_it_is_while_the_others_go_on() -> None:
    together, alone = heads(), heads()
    steps, one_by_one = Steps(stack=True), Steps(stack=False)
    train(steps, together), train(one_by_one, alone)
    kept = weights(together[1]).clone()
    train(steps, together[::2], first=6), train(one_by_one, alone[::2], first=6)
    assert torch.equal(weights(together[1]), kept)
    assert_same(together, alone)


def test_dropout_differs_between_heads_and_is_the_same_twice() -> None:
    first, second = heads(dropout=0.5, clip=0.0), heads(dropout=0.5, clip=0.0)
    torch.manual_seed(1)
    train(Steps(stack=True), first)
    torch.manual_seed(2)
    outside = torch.get_rng_state()
    train(Steps(stack=True), second)
    assert torch.equal(torch.get_rng_state(), outside)  # nobody else's numbers are drawn
    assert all(torch.equal(weights(a), weights(b)) for a, b in zip(first, second, strict=True))
    twins = heads(dropout=0.5)
    for other in twins[1:]:  # the same weights, so that only the masks tell them apart
        other.model.load_state_dict(twins[0].model.state_dict())
    twins[0].model.train()
    Stack(twins).step(batch(0), TARGET, weight=1.0, update=False)
    for one in twins:
        one.end_epoch()
    assert len({one.history[0].loss for one in twins}) == 3


@pytest.mark.parametrize("method", ["ume", "simple-pair"])
def test_a_method_that_cannot_be_stacked_is_trained_one_by_one_and_says_so(method: str) -> None:
    said = Heard()
    together, alone = heads(method, dropout=0.5), heads(method, dropout=0.5)
    train(Steps(stack=True, reporter=said), together, count=3)
    train(Steps(stack=False), alone, count=3)
    assert len(said.lines) == 1 and said.lines[0].startswith(f"{method} can't be stacked")
    assert all(torch.equal(weights(a), weights(b)) for a, b in zip(together, alone, strict=True))


def test_a_loss_that_is_not_finite_is_each_head_s_own() -> None:
    together = heads()
    train(Steps(stack=True), together, count=2)
    with torch.no_grad():
        together[1].model.classifier.bias.fill_(torch.inf)
    train(Steps(stack=True), together, count=2)
    for one in together:
        one.end_epoch()
    assert [isinstance(one.failure, JobFailed) for one in together] == [False, True, False]


def test_checkpoints_hold_stacked_heads() -> None:
    through, first = heads(dropout=0.5), heads(dropout=0.5)
    train(Steps(stack=True), through, 3), train(Steps(stack=True), first, 3)
    second = heads(dropout=0.5)
    for one, other in zip(first, second, strict=True):
        tensors, facts = one.state()
        kept = {name: value.clone() for name, value in tensors.items()}
        other.load_state(kept, json.loads(json.dumps(facts)))
    steps = Steps(stack=True)
    train(steps, through, 3, first=3), train(Steps(stack=True), second, 3, first=3)
    assert all(torch.equal(weights(a), weights(b)) for a, b in zip(through, second, strict=True))


def test_a_comparison_with_stacked_seeds(world: Any, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "data": str(world.data), "text": (str(world.text),), "image": (str(world.image),),
        "methods": ("product", "ume"), "seeds": (0, 1), "width": 8, "epochs": 2, "dropout": 0.0, "lr": 1e-2,
        "patience": 1, "holdout": 0.2, "device": "cpu",
    }  # fmt: skip
    said, rows = Heard(), {}
    for stack in (False, True):
        done = compare(CompareConfig(**settings, stack_seeds=stack, out=str(tmp_path / str(stack))), said)
        rows[stack] = [[seed["overall"] for seed in row["seeds"]] for row in done.document["rows"]]
        assert stack is any("--stack-seeds" in note for note in done.document["notes"])
        assert not stack or any(
            note.startswith("Trained stacked (--stack-seeds): product. ") for note in done.document["notes"]
        )
    assert rows[True] == rows[False]
    assert [line.split()[0] for line in said.lines if "stacked" in line] == ["ume"]
