"""Deletion and insertion: closed forms where there are some, and maps that tell nothing come out like random orders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from umecache.analysis.faithfulness import Faithfulness, area, faithfulness, ranking, summarise
from umecache.analysis.maps import chances, grad_cam
from umecache.fusion.base import Features
from umecache.training.model import FusionClassifier, build_model

N = 8
PLACES = torch.arange(1, N + 1)  # behind a prefix token


def additive(weights_N: Tensor) -> tuple[Tensor, object]:
    """A chance that is the sum of weights of the tokens that are still there."""
    tokens_TD = torch.ones(N + 1, 2)
    return tokens_TD, lambda variants_STD: (variants_STD[:, 1:, 0] * weights_N).sum(1)


def measure(map_N: Tensor, seed: int = 0, orders: int = 2) -> Faithfulness:
    weights_N = torch.tensor([0.5, 0.5, 0, 0, 0, 0, 0, 0])
    tokens_TD, chance = additive(weights_N)
    rng = np.random.default_rng(seed)
    return faithfulness(chance, tokens_TD, torch.zeros(2), PLACES, map_N, rng=rng, orders=orders)  # type: ignore[arg-type]


def test_a_map_that_knows() -> None:
    told = measure(torch.tensor([2.0, 1, 0, 0, 0, 0, 0, 0]))
    assert told.shares.tolist() == [k / N for k in range(N + 1)]
    assert told.deletion_curve.tolist() == [1, 0.5] + [0] * 7
    assert told.insertion_curve.tolist() == [0, 0.5] + [1] * 7
    assert told.deletion == pytest.approx(1 / N) and told.insertion == pytest.approx(1 - 1 / N)
    assert told.gain == pytest.approx(1 - 2 / N)


def test_a_map_that_is_wrong() -> None:
    told = measure(torch.tensor([0.0, 0, 1, 2, 3, 4, 5, 6]))
    assert told.gain < 0 and told.deletion_curve[:7].tolist() == [1] * 7


def test_random_orders_and_flat_maps_tell_nothing() -> None:
    found = [measure(torch.zeros(N), seed) for seed in range(300)]
    told = summarise(found)
    assert told.random[0] == pytest.approx(0.5, abs=4 * told.random[1])
    assert told.gain[0] == pytest.approx(0, abs=4 * told.gain[1])
    assert told.deletion[0] == pytest.approx(0.5, abs=4 * told.deletion[1])


def test_ties_are_broken_at_random() -> None:
    rng = np.random.default_rng(0)
    orders = [ranking(np.array([0.0, 0.0, 3.0, 0.0]), rng).tolist() for _ in range(50)]
    assert all(order[0] == 2 for order in orders) and len({tuple(order) for order in orders}) > 3


def test_area_and_one_question() -> None:
    assert area(np.array([0, 0.5, 1]), np.array([1, 1, 0])) == pytest.approx(0.75)
    told = summarise([measure(torch.ones(N))])
    assert told.questions == 1 and np.isnan(told.gain[1])


# Heads: a token among eight says which answer it is


def questions(count: int, seed: int) -> tuple[Features, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = 0.3 * torch.randn(count, N, 6, generator=generator)
    where_B = torch.randint(N, (count,), generator=generator)
    answer_B = torch.randint(2, (count,), generator=generator)
    image[torch.arange(count), where_B, answer_B] += 4
    text = torch.randn(count, 2, 3, generator=generator)
    masks = [torch.ones(x.shape[:2], dtype=torch.bool) for x in (text, image)]
    return {"text": (text, masks[0]), "image": (image, masks[1])}, answer_B, where_B


def untrained(seed: int) -> FusionClassifier:
    torch.manual_seed(seed)
    dims = {"text": 3, "image": 6}
    return build_model("concat", dims=dims, classes=2, width=16, dropout=0.0, method_args={"input_norm": "none"})


@pytest.fixture(scope="module")
def trained() -> FusionClassifier:
    model = untrained(0)
    features, answer_B, _ = questions(256, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(80):
        optimizer.zero_grad()
        F.cross_entropy(model(features), answer_B).backward()
        optimizer.step()
    return model.eval()


def gains(judged: FusionClassifier, mapped: FusionClassifier, count: int = 24) -> list[Faithfulness]:
    """Maps of one head, measured on another."""
    features, _, _ = questions(count, seed=2)
    target_B = chances(judged, features, soft=False).argmax(1)
    kept = {"image": features["image"][1]}
    map_BN = grad_cam(mapped, features, target_B, kept)["image"]
    filler = features["image"][0].flatten(0, 1).mean(0)
    found = []
    for row in range(count):

        def chance(variants_STD: Tensor, row: int = row) -> Tensor:
            many = {name: (x[row].expand(len(variants_STD), -1, -1), m[row].expand(len(variants_STD), -1))
                    for name, (x, m) in features.items()}  # fmt: skip
            return chances(judged, {**many, "image": (variants_STD, many["image"][1])}, soft=False)[:, target_B[row]]

        rng = np.random.default_rng(row)
        found.append(faithfulness(chance, features["image"][0][row], filler, torch.arange(N), map_BN[row], rng=rng))
    return found


def test_grad_cam_of_a_trained_head_finds_the_token(trained: FusionClassifier) -> None:
    features, _, where_B = questions(24, seed=2)
    target_B = chances(trained, features, soft=False).argmax(1)
    map_BN = grad_cam(trained, features, target_B, {"image": features["image"][1]})["image"]
    assert (map_BN.argmax(1) == where_B).float().mean() > 0.9
    told = summarise(gains(trained, trained))
    assert told.deletion[0] < told.random[0] - 0.1 and told.insertion[0] > told.random[0] + 0.1


def test_grad_cam_of_random_weights_is_no_better_than_random(trained: FusionClassifier) -> None:
    """Adebayo et al. (NeurIPS 2018): a map that does not depend on what was learnt explains nothing. Judged by the
    trained head, maps of untrained ones gain nothing; judged by itself, an untrained head hardly moves at all."""
    by_head = [summarise(gains(trained, untrained(seed), 12)).gain[0] for seed in range(1, 9)]
    error = float(np.std(by_head, ddof=1)) / len(by_head) ** 0.5
    assert abs(np.mean(by_head)) < 3 * error + 0.02
    assert np.mean(by_head) < 0.5 * summarise(gains(trained, trained)).gain[0]
    itself = summarise(gains(untrained(1), untrained(1)))
    assert abs(itself.deletion[0] - itself.random[0]) < 0.05 and abs(itself.insertion[0] - itself.random[0]) < 0.05
