"""The learned mix of layers: its equation, and what passes by untouched."""

from __future__ import annotations

import pytest
import torch

from umecache.errors import UsageError
from umecache.fusion.layer_mix import LayerMix, layers_of

DIMS = {"text@-1": 4, "image": 6, "text@-4": 4}
MASK = torch.tensor([[True, True, False], [True, False, False]])


def _features() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    image = torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool)
    return {"text@-1": (torch.randn(2, 3, 4), MASK), "image": image, "text@-4": (torch.randn(2, 3, 4), MASK)}


def test_names() -> None:
    assert layers_of(list(DIMS)) == {"text": ["text@-1", "text@-4"], "image": ["image"]}


def test_it_is_the_equation() -> None:
    mix, features = LayerMix(DIMS), _features()
    with torch.no_grad():
        mix.score["text"].copy_(torch.tensor([1.0, -0.5]))
        mix.scale["text"].fill_(3.0)
    mixed = mix(features)
    a, b = torch.tensor([1.0, -0.5]).softmax(0)
    text_BTD, mask_BT = mixed["text"]
    torch.testing.assert_close(text_BTD, 3 * (a * features["text@-1"][0] + b * features["text@-4"][0]))
    assert torch.equal(mask_BT, MASK)
    assert mixed["image"][0] is features["image"][0]
    assert list(mixed) == ["text", "image"]
    assert mix.dims == {"text": 4, "image": 6}
    assert mix.weights() == {"text@-1": pytest.approx(float(a)), "text@-4": pytest.approx(float(b))}


def test_it_starts_as_the_mean_and_learns() -> None:
    mix, features = LayerMix(DIMS), _features()
    text_BTD, _ = mix(features)["text"]
    torch.testing.assert_close(text_BTD, (features["text@-1"][0] + features["text@-4"][0]) / 2)
    target = features["text@-4"][0]
    optimizer = torch.optim.Adam(mix.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        (mix(features)["text"][0] - target).square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert mix.weights()["text@-4"] > 0.9


def test_what_stands_at_padded_tokens_stays_there() -> None:
    mix, features = LayerMix(DIMS), _features()
    features["text@-1"][0][~MASK] = float("nan")
    text_BTD, mask_BT = mix(features)["text"]
    assert torch.isfinite(text_BTD[mask_BT]).all()


def test_one_layer_each_has_no_weights_and_widths_must_agree() -> None:
    plain = LayerMix({"text": 4, "image": 6})
    assert list(plain.parameters()) == []
    assert plain.weights() == {}
    with pytest.raises(UsageError, match="4, 8 wide"):
        LayerMix({"text@-1": 4, "text@-2": 8})
