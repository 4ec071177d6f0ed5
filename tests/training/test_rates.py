"""The rate that is chosen is the one that learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from umecache.errors import JobFailed
from umecache.reporting import Silent
from umecache.training.config import CompareConfig
from umecache.training.job import Material
from umecache.training.questions import load_questions
from umecache.training.rates import choose_rates
from umecache.training.resolve import find_sources


def material_of(world: Any, **said: Any) -> Material:
    config = CompareConfig(data=str(world.data), **{"width": 16, "batch_size": 32, "epochs": 15, "dropout": 0.0} | said)
    questions = load_questions(config)
    splits = (questions.train, questions.evaluation)
    sources = find_sources(questions.dataset, splits, text=str(world.text), image=str(world.image))
    return Material(questions, sources, config, torch.device("cpu"))


def test_a_sane_rate_is_chosen(world: Any) -> None:
    material = material_of(world, epochs=20, holdout=0.3)
    chosen = choose_rates(material, {"product": {}, "concat": {}}, (1e-7, 5e-3), Silent())
    assert {method: rate.lr for method, rate in chosen.items()} == {"product": 5e-3, "concat": 5e-3}
    tried = chosen["product"].tried
    assert set(tried) == {1e-7, 5e-3}
    assert (tried[5e-3] or 0) > (tried[1e-7] or 0) + 20


def test_the_smaller_of_equal_rates_is_chosen(world: Any) -> None:
    chosen = choose_rates(material_of(world, epochs=1), {"concat": {}}, (1e-9, 1e-8), Silent())
    assert chosen["concat"].lr == 1e-9


def test_rates_that_diverge_are_passed_over(world: Any) -> None:
    material = material_of(world, epochs=1, clip=0.0, warmup=0.0, schedule="constant")
    gather = material.train_reader.gather

    def overflowing(index: Any) -> Any:
        batch = gather(index)
        tokens_BTD, mask_BT = batch.features["image"]
        batch.features["image"] = (tokens_BTD * float("nan"), mask_BT)
        return batch

    material.train_reader.gather = overflowing  # type: ignore[method-assign]
    with pytest.raises(JobFailed, match=r"No rate of 0\.001, 0\.01 trains image-only"):
        choose_rates(material, {"text-only": {}, "image-only": {}}, (1e-3, 1e-2), Silent())
