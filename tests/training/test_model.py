"""Heads: fusion and classifier, and which method takes which argument."""

from __future__ import annotations

import pytest
import torch

from umecache.errors import UnknownName, UsageError
from umecache.fusion.registry import METHODS
from umecache.training.model import FusionClassifier, build_model, method_arguments, modalities_of, share_arguments

DIMS = {"text": 6, "image": 10}


def features(batch: int = 3) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    text = torch.randn(batch, 4, 6), torch.ones(batch, 4, dtype=torch.bool)
    image = torch.randn(batch, 5, 10), torch.ones(batch, 5, dtype=torch.bool)
    return {"text": text, "image": image}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_logits_and_reaches_every_weight(method: str) -> None:
    torch.manual_seed(0)
    model = build_model(method, dims=DIMS, classes=7, width=8, dropout=0.0)
    logits_BC = model(features())
    assert logits_BC.shape == (3, 7)
    logits_BC.square().sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_the_classifier_is_one_linear_layer_on_the_fused_vector() -> None:
    torch.manual_seed(0)
    model = build_model("concat", dims=DIMS, classes=7, width=8, dropout=0.0).eval()
    assert isinstance(model, FusionClassifier)
    batch = features()
    torch.testing.assert_close(model(batch), model.fusion(batch) @ model.classifier.weight.T + model.classifier.bias)


def test_unknown_methods_and_arguments_are_named() -> None:
    with pytest.raises(UnknownName, match="ume"):
        build_model("umee", dims=DIMS, classes=2, width=8, dropout=0.0)
    with pytest.raises(UsageError, match="'pair'"):
        build_model("ume", dims=DIMS, classes=2, width=8, dropout=0.0, method_args={"pair": "cross"})


def test_width_and_dropout_have_their_own_flags() -> None:
    assert "pairs" in method_arguments("ume")
    assert not method_arguments("ume") & {"width", "dropout", "dims"}


def test_an_argument_goes_to_every_method_that_takes_it() -> None:
    shared = share_arguments(("concat", "evc", "ume"), {"pairs": "cross"})
    assert shared == {"concat": {}, "evc": {"pairs": "cross"}, "ume": {"pairs": "cross"}}


def test_an_argument_for_one_method_wins() -> None:
    shared = share_arguments(("evc", "ume"), {"ume.pairs": "all", "pairs": "cross"})
    assert shared == {"evc": {"pairs": "cross"}, "ume": {"pairs": "all"}}


@pytest.mark.parametrize("key", ["pairz", "ume.pairz", "concat.pairs", "mcan.pairs", "width"])
def test_an_argument_nobody_takes_is_refused(key: str) -> None:
    with pytest.raises(UsageError, match=f"--method-arg {key}"):
        share_arguments(("concat", "ume"), {key: "cross"})


def test_controls_look_at_one_modality() -> None:
    assert modalities_of(("text-only",)) == ("text",)
    assert modalities_of(("image-only", "text-only")) == ("text", "image")
    assert modalities_of(("./mine.py:Mine",)) == ("text", "image")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_a_mix_of_layers(method: str) -> None:
    def built(dims: dict[str, int]) -> FusionClassifier:
        torch.manual_seed(0)
        return build_model(method, dims=dims, classes=7, width=8, dropout=0.0).eval()

    batch = features()
    text, mask_BT = batch["text"]
    layers = {"text@-1": (text + 1, mask_BT), "text@-4": (text - 1, mask_BT), "image": batch["image"]}
    mixed = built({"text@-1": 6, "text@-4": 6, "image": 10})
    # At the start the mix is the mean, and the other weights are those of a head without one.
    torch.testing.assert_close(mixed(layers), built(DIMS)(batch))
    assert mixed.facts()["share of text@-1"] == pytest.approx(0.5)
    if method != "image-only":
        mixed(layers).square().sum().backward()
        assert mixed.mix is not None
        assert float(mixed.mix.score["text"].grad.abs().sum()) > 0
