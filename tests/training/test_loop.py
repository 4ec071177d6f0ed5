"""The loop: one pass feeds every head, and none of them notices the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from umecache.errors import JobFailed
from umecache.training.config import CompareConfig
from umecache.training.head import Head, HeadSpec
from umecache.training.job import Material
from umecache.training.loop import predict, train
from umecache.training.questions import load_questions
from umecache.training.resolve import find_sources

CPU = torch.device("cpu")


def material_of(world: Any, **settings: Any) -> Material:
    config = CompareConfig(
        data=str(world.data), **{"width": 16, "batch_size": 32, "epochs": 2, "dropout": 0.3} | settings
    )
    questions = load_questions(config)
    sources = find_sources(
        questions.dataset, (questions.train, questions.evaluation), text=str(world.text), image=str(world.image)
    )
    return Material(questions, sources, config, CPU)


def run(material: Material, specs: list[HeadSpec], *, held: bool = False) -> list[Head]:
    index, held_index = material.questions.held_out if held else (material.questions.trained_on, None)
    heads = material.heads(specs, index)
    train(heads, material.train_reader, material.questions.targets, index, config=material.config, held=held_index)
    return heads


def weights(head: Head) -> list[torch.Tensor]:
    return [weight.detach() for weight in head.model.state_dict().values()]


def spec(method: str, seed: int = 0, lr: float = 1e-2) -> HeadSpec:
    return HeadSpec(method=method, seed=seed, lr=lr)


@pytest.mark.parametrize(
    "method", ["text-only", "image-only", "concat", "product", "attention", "evc", "ume", "ume-res"]
)
def test_a_head_trained_alone_is_the_same_bit_for_bit(world: Any, method: str) -> None:
    others = [spec("concat", 5), spec("attention", 1)]
    alone = run(material_of(world), [spec(method)])[0]
    among = run(material_of(world), [others[0], spec(method), others[1], spec(method, 1)])[1]
    assert all(torch.equal(a, b) for a, b in zip(weights(alone), weights(among), strict=True))
    assert alone.history == among.history


def test_two_runs_are_the_same_bit_for_bit(world: Any) -> None:
    first, second = (run(material_of(world), [spec("ume-res")])[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_reading_from_the_store_or_from_memory_is_the_same_bit_for_bit(world: Any) -> None:
    first, second = (run(material_of(world, residency=kind), [spec("ume")])[0] for kind in ("memory", "store"))
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_seeds_differ_and_so_do_orders(world: Any) -> None:
    one, other = run(material_of(world), [spec("concat", 0), spec("concat", 1)])
    assert not torch.equal(weights(one)[-1], weights(other)[-1])
    again = run(material_of(world, order_seed=1), [spec("concat", 0)])[0]
    assert not torch.equal(weights(one)[-1], weights(again)[-1])


def test_heads_stop_on_their_own(world: Any) -> None:
    settings = {"patience": 3, "epochs": 12, "holdout": 0.3, "warmup": 0.0}
    # A rate of next to nothing never improves on its first epoch's score.
    still, learning = run(
        material_of(world, **settings), [spec("product", lr=1e-12), spec("product", lr=1e-2)], held=True
    )
    assert len(still.history) == 4 and still.best_epoch == 1
    assert len(learning.history) > 4
    alone = run(material_of(world, **settings), [spec("product", lr=1e-2)], held=True)[0]
    assert all(torch.equal(a, b) for a, b in zip(weights(learning), weights(alone), strict=True))
    assert alone.history == learning.history


def test_the_joint_task_is_learned_and_predictions_are_in_order(world: Any) -> None:
    material = material_of(world, epochs=25, dropout=0.0)
    head = run(material, [spec("product", lr=3e-3)])[0]
    index = np.arange(len(material.questions.train.questions))
    answers_Q = predict([head], material.train_reader, index, batch_size=17)[0]
    assert (answers_Q == material.questions.targets.hard(index).numpy()).mean() > 0.95


def test_soft_scores_train_too(world: Any) -> None:
    material = material_of(world, epochs=25, loss="soft", dropout=0.0)
    head = run(material, [spec("product", lr=3e-3)])[0]
    index = np.arange(len(material.questions.train.questions))
    answers_Q = predict([head], material.train_reader, index, batch_size=64)[0]
    assert (answers_Q == material.questions.targets.hard(index).numpy()).mean() > 0.95
    assert head.history[-1].loss < head.history[0].loss


def test_batches_that_make_one_step_are_as_good_as_one_larger_batch(world: Any) -> None:
    settings: dict[str, Any] = {"dropout": 0.0, "epochs": 2}
    # 180 questions: five batches of 40 and 20 questions, the last step of 20 only
    whole = run(material_of(world, batch_size=80, **settings), [spec("product")])[0]
    parts = run(material_of(world, batch_size=40, accumulate=2, **settings), [spec("product")])[0]
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert [epoch.lr for epoch in whole.history] == [epoch.lr for epoch in parts.history]


def test_a_head_that_diverges_stops_the_job_by_name(world: Any) -> None:
    settings: dict[str, Any] = {"warmup": 0.0, "clip": 0.0, "optimizer": "adam"}
    with pytest.raises(JobFailed, match=r"image-only, seed 3"):
        run(broken(material_of(world, **settings)), [spec("text-only"), spec("image-only", 3)])


def test_a_head_that_diverges_is_left_behind_where_that_is_allowed(world: Any) -> None:
    material = broken(material_of(world))
    questions = material.questions
    heads = material.heads([spec("text-only"), spec("image-only")], questions.trained_on)
    train(
        heads,
        material.train_reader,
        questions.targets,
        questions.trained_on,
        config=material.config,
        tolerant=True,
    )
    assert heads[0].failure is None and len(heads[0].history) == material.config.epochs
    assert heads[1].failure is not None


def broken(material: Material) -> Material:
    """Its image features overflow."""
    reader = material.train_reader
    gather = reader.gather

    def overflowing(index: Any) -> Any:
        batch = gather(index)
        tokens_BTD, mask_BT = batch.features["image"]
        batch.features["image"] = (tokens_BTD * float("inf"), mask_BT)
        return batch

    reader.gather = overflowing  # type: ignore[method-assign]
    return material
