"""What is learned without answers: the pairs and hidden tokens are what they say, for every method."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layer_mix import LayerMix
from umecache.fusion.registry import METHODS, build_fusion
from umecache.training.objectives import TEMPERATURE, Pretraining, another, find, place_code

DIMS = {"text": 6, "image": 10}
IMAGES = torch.tensor([1, 1, 2, 3, 3, 4])


class Sees(Fusion):
    """Keeps what it was shown."""

    out_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.shown: list[Features] = []

    def forward(self, features: Features) -> Tensor:
        self.shown.append(features)
        return self.weight * features["image"][0].sum((1, 2))[:, None]


def features(batch: int = 6, tokens: int = 5) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    mask = torch.ones(batch, tokens, dtype=torch.bool)
    mask[0, 3:] = mask[2, 1:] = False
    return {name: (torch.randn(batch, tokens, dim, generator=generator), mask.clone()) for name, dim in DIMS.items()}


def test_another_image_is_never_the_same_one_and_all_others_are_drawn() -> None:
    torch.manual_seed(0)
    drawn: list[set[int]] = [set() for _ in IMAGES]
    for _ in range(200):
        other_B, found_B = another(IMAGES, torch.ones(6, dtype=torch.bool))
        assert found_B.all() and (IMAGES[other_B] != IMAGES).all()
        for row, other in enumerate(other_B.tolist()):
            drawn[row].add(other)
    assert drawn == [{other for other in range(6) if IMAGES[other] != IMAGES[row]} for row in range(6)]


def test_one_image_alone_has_no_other_and_a_missing_one_is_nobody_s() -> None:
    assert not another(torch.tensor([7, 7]), torch.ones(2, dtype=torch.bool))[1].any()
    there = torch.tensor([True, False, True])
    for _ in range(20):
        other_B, found_B = another(torch.tensor([1, 2, 3]), there)
        assert found_B.tolist() == [True, False, True]
        assert other_B[0] == 2 and other_B[2] == 0


def test_half_of_the_pairs_are_wrong_and_only_their_image_is_another_s() -> None:
    fusion = Sees()
    model = Pretraining(fusion, DIMS, exchanged=("image",))
    torch.manual_seed(1)
    given, wrong = features(), 0
    for _ in range(100):
        model.match(given, IMAGES)
        shown = fusion.shown.pop()
        assert shown["text"][0] is given["text"][0]
        same_BB = (shown["image"][0][:, None] == given["image"][0]).flatten(2).all(2)
        assert (same_BB.sum(1) == 1).all()
        from_B = same_BB.int().argmax(1)
        moved = from_B != torch.arange(6)
        assert (IMAGES[from_B] != IMAGES)[moved].all()
        assert torch.equal(shown["image"][1], given["image"][1][from_B])
        wrong += int(moved.sum())
    assert 240 < wrong < 360  # of 600


def test_matching_s_loss_and_accuracy_are_of_what_the_classifier_says() -> None:
    model = Pretraining(Sees(), DIMS, exchanged=("image",))
    nn.init.zeros_(model.classifier.weight)
    nn.init.constant_(model.classifier.bias, 2.0)  # says "right" to everything
    torch.manual_seed(2)
    loss, accuracy = model.match(features(), IMAGES).tolist()
    right = accuracy / 100
    assert 0 < right < 1
    expected = right * math.log(1 + math.exp(-2)) + (1 - right) * math.log(1 + math.exp(2))
    assert loss == pytest.approx(expected, rel=1e-5)
    nothing = model.match(features(), torch.ones(6))  # one image: no wrong pair can be made
    assert nothing.tolist() == [0.0, 0.0]


def test_one_modality_of_a_sample_is_hidden_in_part_and_the_token_asked_for_always() -> None:
    model = Pretraining(Sees(), DIMS, exchanged=("image",), share=0.3)
    torch.manual_seed(4)
    given, hidden, real = features(), 0, 0
    for _ in range(50):
        masked = model.hide(given)
        for number, name in enumerate(DIMS):
            tokens, mask = masked.features[name]
            before, _ = given[name]
            changed_BT = (tokens != before).any(2)
            asked = masked.asked == number
            assert not changed_BT[~asked].any() and not changed_BT[~mask].any()
            assert (tokens[changed_BT] == model.hidden[number]).all()
            rows = torch.arange(6)
            assert changed_BT[rows, masked.place[name]][asked].all()
            assert mask[rows, masked.place[name]].all()
            assert torch.equal(masked.token[name], before[rows, masked.place[name]])
            hidden, real = hidden + int(changed_BT[asked].sum()), real + int(mask[asked].sum())
    # The token that is asked for, and 0.3 of the others.
    assert 0.3 < hidden / real < 0.65


def test_a_guess_is_held_against_one_token_of_each_sample() -> None:
    token_BD = torch.eye(4, 8) + 0.01 * torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    token_BD[3] = token_BD[0]  # the same words: no wrong answer
    real_B = torch.tensor([True, True, False, True])
    centred = torch.nn.functional.layer_norm(token_BD, (8,))
    _, hit_B = find(centred, token_BD, real_B)
    assert hit_B.tolist() == [True] * 4
    unit = torch.nn.functional.normalize(centred, dim=1)
    # Sample 0 has one rival, 1: sample 2 has no token, and 3's is its own.
    torn_BD = centred.clone()
    torn_BD[0] = unit[0] + unit[1]
    assert find(torn_BD, token_BD, real_B)[0][0].item() == pytest.approx(math.log(2), rel=1e-4)
    torn_BD[0] = unit[0] - unit[1]
    gap = 2 * (1 - float(unit[0] @ unit[1])) / float(torn_BD[0].norm()) / TEMPERATURE
    assert find(torn_BD, token_BD, real_B)[0][0].item() == pytest.approx(math.log1p(math.exp(-gap)), abs=1e-5)
    wrong_B = find(centred.roll(1, 0), token_BD, torch.ones(4, dtype=torch.bool))[1]
    assert not wrong_B[1:3].any()


def test_places_are_told_apart() -> None:
    code_TP = place_code(torch.arange(600))
    assert torch.isfinite(code_TP).all() and code_TP.abs().max() <= 1
    distance_TT = torch.cdist(code_TP, code_TP) + 10 * torch.eye(600)
    assert distance_TT.min() > 0.1


@pytest.mark.parametrize("method", [name for name, entry in METHODS.items() if not entry.control])
def test_every_method_is_reached_by_both_objectives(method: str) -> None:
    torch.manual_seed(0)
    model = Pretraining(build_fusion(method, DIMS, width=8), DIMS, exchanged=("image",))
    given = features()
    given["image"][0][0, 3:] = torch.nan  # padding: whatever stands there
    for objective in ("match", "mask"):
        model.objective_names = (objective,)
        loss, figures = model.objectives(given, IMAGES)
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [weight.grad for weight in model.fusion.parameters() if weight.grad is not None]
        assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)
        assert any(gradient.any() for gradient in gradients)
        assert torch.isfinite(figures).tolist() == [objective == "match"] * 2 + [objective == "mask"] * 2
        used = any(vector.grad is not None and bool(vector.grad.any()) for vector in model.hidden)
        assert used is (objective == "mask")


def test_an_image_that_could_not_be_read_is_left_out() -> None:
    model = Pretraining(build_fusion("concat", DIMS, width=8), DIMS, exchanged=("image",))
    given = features()
    given["image"][1][1:3] = False
    for _ in range(10):
        loss, figures = model.objectives(given, IMAGES)
        assert torch.isfinite(loss) and torch.isfinite(figures).all()


def test_mixed_layers_are_hidden_after_their_mix() -> None:
    given = features()
    layers = {"text@-1": given["text"], "text@-4": given["text"], "image": given["image"]}
    mix = LayerMix({"text@-1": 6, "text@-4": 6, "image": 10})
    model = Pretraining(build_fusion("concat", mix.dims, width=8), mix.dims, exchanged=("image",), mix=mix)
    loss, _ = model.objectives(layers, IMAGES)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in mix.parameters())
