"""Maps against their formula: Grad-CAM by finite differences, weights as the methods give them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from umecache.analysis.maps import chances, class_activation, grad_cam, logits_of, mixed, places, weight_maps
from umecache.encoders.base import TokenGrid
from umecache.fusion.base import Features
from umecache.training.model import FusionClassifier, build_model

DIMS = {"text": 5, "image": 6}
GRID = TokenGrid(height=2, width=3, prefix=2)


def head(method: str, seed: int = 0) -> FusionClassifier:
    torch.manual_seed(seed)
    return build_model(method, dims=DIMS, classes=4, width=8, dropout=0.1).double().eval()


def batch(seed: int = 0) -> Features:
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)
    image = torch.randn(2, GRID.tokens, 6, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    return {"text": (text, mask), "image": (image, torch.ones(2, GRID.tokens, dtype=torch.bool))}


def kept(features: Features) -> dict[str, Tensor]:
    return {"text": places(features["text"][1], None), "image": places(features["image"][1], GRID)}


@pytest.mark.parametrize("method", ["concat", "attention", "ume-res", "mcan"])
@pytest.mark.parametrize("modality", ["text", "image"])
def test_grad_cam_against_finite_differences(method: str, modality: str) -> None:
    model, features = head(method), batch()
    target_B, positions = torch.tensor([1, 3]), kept(features)
    maps = grad_cam(model, features, target_B, positions)
    tokens_BTD, mask = features[modality]
    step = 1e-5
    for sample in range(2):
        real = positions[modality][sample].nonzero().flatten().tolist()
        alpha = torch.zeros(tokens_BTD.shape[2], dtype=torch.float64)
        for token in real:
            for d in range(len(alpha)):
                sides = []
                for sign in (1, -1):
                    moved = tokens_BTD.clone()
                    moved[sample, token, d] += sign * step
                    logits = logits_of(model, {**features, modality: (moved, mask)}).detach()
                    sides.append(float(logits[sample, target_B[sample]]))
                alpha[d] += (sides[0] - sides[1]) / (2 * step) / len(real)
        expected = [max(0.0, float(alpha @ tokens_BTD[sample, t])) if t in real else 0.0 for t in range(len(mask[0]))]
        assert maps[modality][sample].tolist() == pytest.approx(expected, abs=1e-6)
    assert maps[modality].max() > 0


def test_prefix_and_padding_have_no_place() -> None:
    features = batch()
    found = places(features["image"][1], GRID)
    assert found.sum(1).tolist() == [6, 6] and not found[:, :2].any()
    assert not places(torch.zeros(1, GRID.tokens, dtype=torch.bool), GRID).any()
    gradient = torch.ones(2, 4, 5)
    tokens = torch.ones(2, 4, 5)
    tokens[1, 2:] = float("nan")  # padding may be anything
    assert class_activation(gradient, tokens, kept(features)["text"]).tolist() == [[5.0] * 4, [5.0, 5.0, 0.0, 0.0]]


def test_a_modality_that_is_not_looked_at_has_no_map() -> None:
    model = head("text-only")
    features = batch()
    assert set(grad_cam(model, features, torch.tensor([0, 1]), kept(features))) == {"text"}


def test_nothing_of_the_callers_changes() -> None:
    model, features = head("concat"), batch()
    grad_cam(model, features, torch.tensor([0, 1]), kept(features))
    assert all(not tokens.requires_grad for tokens, _ in features.values())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_weights_are_the_methods_own() -> None:
    features = batch()
    positions = kept(features)
    assert weight_maps(head("concat"), features, "attention", positions) is None
    assert weight_maps(head("attention"), features, "pairs", positions) is None
    model = head("ume")
    for kind, told in (
        ("attention", model.fusion.attention_weights(features)),
        ("pairs", model.fusion.token_weights(features)),
    ):
        maps = weight_maps(model, features, kind, positions)
        assert maps is not None and told is not None
        assert torch.equal(maps["text"], told["text"])
        assert torch.equal(maps["image"][:, 2:], told["image"][:, 2:]) and (maps["image"][:, :2] == 0).all()


def test_layers_are_mixed_first() -> None:
    torch.manual_seed(0)
    model = build_model(
        "concat", dims={"text@-1": 5, "text@-2": 5, "image": 6}, classes=3, width=8, dropout=0.0
    ).double()
    features = batch()
    both: Features = {"text@-1": features["text"], "text@-2": features["text"], "image": features["image"]}
    seen = mixed(model, both)
    torch.testing.assert_close(seen["text"][0], features["text"][0])
    assert set(grad_cam(model, seen, torch.tensor([0, 1]), kept(seen))) == {"text", "image"}


def test_chances() -> None:
    features = batch()
    assert chances(head("concat"), features, soft=False).sum(1).tolist() == pytest.approx([1, 1])
    logits = logits_of(head("concat"), features).detach()
    assert torch.equal(chances(head("concat"), features, soft=True), logits.sigmoid())
