"""VGG-16: the conv5 map and fc7 as torchvision computes them, from torchvision's and timm's checkpoints."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import vgg16

from tests.encoders.broken_images import photo
from tests.encoders.contract import ImageEncoderContract, assert_close, hidden_states
from tests.encoders.small_timm import SIZE, normalised
from umecache.encoders.base import Encoder, EncoderOptions, TokenGrid
from umecache.encoders.registry import load_encoder
from umecache.encoders.vgg import CHANNELS, POOL, Fc7, encoder_state
from umecache.errors import DataError, UsageError

IMAGENET = (timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD)
ITEMS = (photo(160, 120, kind="PNG"), photo(70, 90, seed=1), photo(200, 100, seed=2))


@functools.cache
def torchvision_vgg(seed: int, fc6: int, fc7: int) -> nn.Sequential:
    """torchvision's convolutions and pooling, with fully connected layers of these widths."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        whole = vgg16()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        whole.classifier = nn.Sequential(
            nn.Linear(CHANNELS * POOL * POOL, fc6, device="meta"), *list(whole.classifier)[1:3],
            nn.Linear(fc6, fc7, device="meta"), *list(whole.classifier)[4:6],
            nn.Linear(fc7, 10, device="meta"),
        )  # fmt: skip
        whole.to_empty(device="cpu")
        for parameter in whole.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter)
            else:
                nn.init.normal_(parameter, std=0.1)
    return whole.eval()


def torchvision_hidden(model: nn.Module, x: Tensor) -> Tensor:
    """[4096]: all of torchvision's own forward but the last layer."""
    pooled = model.get_submodule("avgpool")(model.get_submodule("features")(x)).flatten(1)
    hidden: Tensor = nn.Sequential(*list(model.get_submodule("classifier").children())[:-1])(pooled)[0]
    return hidden


def torchvision_fc7(model: nn.Module, x: Tensor) -> Tensor:
    """[4096]: the same, divided by its length."""
    hidden = torchvision_hidden(model, x)
    return hidden / hidden.square().sum().sqrt()


class TestVgg16(ImageEncoderContract):
    items = ITEMS

    def load(self, folder: Path, *, seed: int = 0, layers: str = "last") -> Encoder:
        save_file(torchvision_vgg(seed, 24, 16).state_dict(), folder / "vgg.safetensors")
        weights = str(folder / "vgg.safetensors")
        return load_encoder("vgg16", EncoderOptions(weights=weights, layers=layers, image_size=SIZE))

    def reference(self, encoder: Encoder, item: str | bytes) -> Tensor:
        assert isinstance(item, bytes)
        features = torchvision_vgg(0, 24, 16).features
        return features(normalised(item, SIZE, *IMAGENET))[0].flatten(1).mT


class TestVgg16Fc7(ImageEncoderContract):
    items = ITEMS
    other_layer = None

    def load(self, folder: Path, *, seed: int = 0, layers: str = "last") -> Encoder:
        save_file(torchvision_vgg(seed, 24, 16).state_dict(), folder / "vgg.safetensors")
        weights = str(folder / "vgg.safetensors")
        return load_encoder("vgg16-fc7", EncoderOptions(weights=weights, layers=layers, image_size=SIZE))

    def reference(self, encoder: Encoder, item: str | bytes) -> Tensor:
        assert isinstance(item, bytes)
        return torchvision_fc7(torchvision_vgg(0, 24, 16), normalised(item, SIZE, *IMAGENET))[None]

    def test_one_token_of_length_one(self, encoder: Encoder) -> None:
        assert encoder.grid == TokenGrid(height=1, width=1)
        assert encoder.dim == 16
        for hidden_TD in hidden_states(encoder, ITEMS):
            assert hidden_TD.shape == (1, 16)
            assert hidden_TD.norm() == pytest.approx(1)
            assert (hidden_TD >= 0).all()


def test_real_size_is_torchvisions_own_fc7(tmp_path: Path) -> None:
    """The whole network at 224 px, 4,096 wide, from torchvision's file and from timm's."""
    model = torchvision_vgg(5, 4096, 4096)
    state = model.state_dict()
    save_file(
        {name: tensor for name, tensor in state.items() if "classifier.6" not in name}, tmp_path / "tv.safetensors"
    )
    encoder = load_encoder("vgg16-fc7", EncoderOptions(weights=str(tmp_path / "tv.safetensors")))
    assert encoder.grid == TokenGrid(height=1, width=1)
    assert encoder.dim == 4096
    assert encoder.recipe["image_size"] == 224
    data = photo(640, 480)
    (found_TD,) = hidden_states(encoder, [data])
    x = normalised(data, 224, *IMAGENET)
    with torch.inference_mode():
        hidden = torchvision_hidden(model, x)
        # The yardstick itself: torchvision's last layer on it gives torchvision's logits.
        assert_close(model.get_submodule("classifier")[6](hidden), model(x)[0])
    assert_close(found_TD[0], hidden / hidden.norm())


def timm_layout(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As timm's own model holds the same weights."""
    theirs = {name: tensor for name, tensor in state.items() if name.startswith("features.")}
    for old, new, shape in (("0", "fc1", (-1, CHANNELS, POOL, POOL)), ("3", "fc2", None)):
        weight = state[f"classifier.{old}.weight"]
        theirs[f"pre_logits.{new}.weight"] = weight.reshape(shape or (*weight.shape, 1, 1)).contiguous()
        theirs[f"pre_logits.{new}.bias"] = state[f"classifier.{old}.bias"]
    return {**theirs, "head.fc.weight": state["classifier.6.weight"], "head.fc.bias": state["classifier.6.bias"]}


@pytest.mark.parametrize("name", ["vgg16", "vgg16-fc7"])
def test_every_layout_gives_the_same_encoder(name: str, tmp_path: Path) -> None:
    state = torchvision_vgg(0, 24, 16).state_dict()
    save_file(state, tmp_path / "torchvision.safetensors")
    torch.save(state, tmp_path / "vgg16-397923af.pth")  # the form that torchvision's own file has
    save_file(timm_layout(state), tmp_path / "timm.safetensors")
    headless = {key: tensor for key, tensor in state.items() if not key.startswith("classifier.6")}
    save_file(headless, tmp_path / "headless.safetensors")
    encoders = [
        load_encoder(name, EncoderOptions(weights=str(path), image_size=SIZE)) for path in sorted(tmp_path.iterdir())
    ]
    assert len(encoders) == 4
    for encoder in encoders[1:]:
        assert encoder.recipe == encoders[0].recipe
        assert torch.equal(hidden_states(encoder, ITEMS[:1])[0], hidden_states(encoders[0], ITEMS[:1])[0])


def test_timms_layout_is_the_one_that_timm_reads(tmp_path: Path) -> None:
    """timm's pre_logits on timm's features gives our fc7, so the two layouts are understood alike."""
    theirs = timm.create_model("vgg16", num_classes=10, mlp_ratio=16 / 4096).eval()
    state = theirs.state_dict()
    save_file(state, tmp_path / "timm.safetensors")
    encoder = load_encoder("vgg16-fc7", EncoderOptions(weights=str(tmp_path / "timm.safetensors")))
    x = normalised(ITEMS[0], 224, *IMAGENET)
    with torch.inference_mode():
        raw = theirs.pre_logits(theirs.forward_features(x)).flatten()
    assert_close(hidden_states(encoder, [ITEMS[0]])[0][0], raw / raw.norm())


def test_the_map_needs_only_convolutions(tmp_path: Path) -> None:
    state = torchvision_vgg(0, 24, 16).state_dict()
    save_file({key: tensor for key, tensor in state.items() if "features" in key}, tmp_path / "features.safetensors")
    options = EncoderOptions(weights=str(tmp_path / "features.safetensors"), image_size=SIZE)
    assert load_encoder("vgg16", options).dim == 512
    with pytest.raises(DataError, match=r"lacks fc6 \(classifier\.0"):
        load_encoder("vgg16-fc7", options)


@pytest.mark.parametrize(("size", "layers", "side"), [(224, "last", 7), (64, "last", 2), (96, "-2", 6), (96, "-1", 3)])
def test_token_maps(size: int, layers: str, side: int) -> None:
    """pool5 has a token per 32 pixels, conv5_3 one per 16."""
    encoder = load_encoder("vgg16", EncoderOptions(weights="random", image_size=size, layers=layers))
    assert encoder.grid == TokenGrid(height=side, width=side)
    assert encoder.dim == 512
    assert encoder.recipe["layers"] == ("last" if layers == "-1" else layers)


def test_conv5_3_is_before_its_pooling(tmp_path: Path) -> None:
    model = torchvision_vgg(0, 24, 16)
    save_file(model.state_dict(), tmp_path / "vgg.safetensors")
    options = EncoderOptions(weights=str(tmp_path / "vgg.safetensors"), image_size=SIZE, layers="-2")
    (found_TD,) = hidden_states(load_encoder("vgg16", options), ITEMS[:1])
    with torch.inference_mode():
        expected = model.get_submodule("features")[:-1](normalised(ITEMS[0], SIZE, *IMAGENET))
    assert_close(found_TD, expected[0].flatten(1).mT)


def test_other_sizes_are_pooled_as_torchvision_does() -> None:
    network = Fc7(nn.Identity(), 8, 8).eval()
    map_BDHW = torch.randn(2, CHANNELS, 14, 14)
    pooled = map_BDHW.unflatten(3, (7, 2)).unflatten(2, (7, 2)).mean((3, 5))
    with torch.inference_mode():
        assert_close(network.forward_features(map_BDHW), network.forward_features(pooled))


def test_missing_and_misshapen_weights_are_named(tmp_path: Path) -> None:
    state = torchvision_vgg(0, 24, 16).state_dict()
    path = tmp_path / "vgg.safetensors"
    save_file({key: tensor for key, tensor in state.items() if not key.startswith("features.28")}, path)
    with pytest.raises(DataError, match=r"features\.28"):
        load_encoder("vgg16", EncoderOptions(weights=str(path)))
    save_file({**load_file(path), "features.28.weight": torch.zeros(3), "features.28.bias": torch.zeros(512)}, path)
    with pytest.raises(DataError, match=r"features\.28\.weight"):
        load_encoder("vgg16", EncoderOptions(weights=str(path)))
    save_file({"stem.weight": torch.zeros(3)}, path)
    with pytest.raises(DataError, match=r"lacks"):
        load_encoder("vgg16", EncoderOptions(weights=str(path)))


def test_what_vgg_does_not_have() -> None:
    with pytest.raises(UsageError, match="one layer, fc7"):
        load_encoder("vgg16-fc7", EncoderOptions(weights="random", layers="-1"))
    with pytest.raises(UsageError, match="depth"):
        load_encoder("vgg16", EncoderOptions(weights="random", model_args={"depth": 3}))
    with pytest.raises(UsageError, match="16 x 16"):
        load_encoder("vgg16", EncoderOptions(weights="random", image_size=16))


def test_encoder_state_keeps_what_is_needed() -> None:
    state = timm_layout(torchvision_vgg(0, 24, 16).state_dict())
    assert not any(name.startswith("fc") for name in encoder_state(state, fc7=False))
    names = encoder_state(state, fc7=True)
    assert names["fc6.weight"].shape == (24, CHANNELS * POOL * POOL)
    assert names["fc7.weight"].shape == (16, 24)
    assert len(names) == 26 + 4
