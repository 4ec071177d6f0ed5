"""Image encoders: tokens as timm gives them, in reading order, for narrow networks of every kind and the real ones."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.encoders.broken_images import BAD, GOOD, encoded, photo, quarters
from tests.encoders.contract import ImageEncoderContract, assert_close, hidden_states
from tests.encoders.small_timm import SIZE, SMALL, build, normalised, timm_tokens, write_folder
from umecache.encoders.base import Encoder, EncoderOptions, TokenGrid
from umecache.encoders.image import ImageEncoder, layer_index
from umecache.encoders.registry import load_encoder
from umecache.errors import UnreadableInput, UsageError

HALF = (0.5, 0.5, 0.5)


class SmallTimm(ImageEncoderContract):
    """Inherit and say which registry name and architecture."""

    name: ClassVar[str]
    architecture: ClassVar[str]
    items = (photo(160, 120, kind="PNG"), photo(70, 90, seed=1, quality=95), photo(200, 100, seed=2))

    def load(self, folder: Path, *, seed: int = 0, layers: str = "last") -> Encoder:
        write_folder(folder, self.architecture, seed=seed)
        return load_encoder(self.name, EncoderOptions(weights=str(folder), layers=layers, image_size=SIZE))

    def reference(self, encoder: Encoder, item: str | bytes) -> Tensor:
        assert isinstance(item, bytes)
        return timm_tokens(Path(str(encoder.origin["weights"])), self.architecture, item)

    def test_grid_is_the_architectures(self, encoder: Encoder) -> None:
        height, width, prefix = SMALL[self.architecture].grid
        assert encoder.grid == TokenGrid(height=height, width=width, prefix=prefix)

    def test_bad_files_are_refused_and_hard_ones_encoded(self, encoder: Encoder) -> None:
        for made in BAD.values():
            with pytest.raises(UnreadableInput):
                encoder.prepare(made.data)
        hidden = hidden_states(encoder, [made.data for made in GOOD.values()])
        assert all(torch.isfinite(hidden_TD).all() for hidden_TD in hidden)


class TestVit(SmallTimm):
    name, architecture = "vit", "vit_base_patch16_384"


class TestBeit(SmallTimm):
    name, architecture = "beit", "beit_base_patch16_384"


class TestDeit(SmallTimm):
    name, architecture = "deit", "deit_base_patch16_224"


class TestDeitDistilled(SmallTimm):
    name, architecture = "timm:deit_base_distilled_patch16_224", "deit_base_distilled_patch16_224"


class TestSwin(SmallTimm):
    name, architecture = "swin", "swin_base_patch4_window7_224"


class TestMobileNet(SmallTimm):
    name, architecture = "mobilenetv2", "mobilenetv2_100"


class TestEfficientNet(SmallTimm):
    name, architecture = "efficientnet", "efficientnet_b0"


class TestResNet(SmallTimm):
    name, architecture = "resnet50", "resnet50"


# How tokens lie


def plain_tokens(y: Tensor, prefix: int) -> Tensor:
    """Tokens of a square map or row, told by D being the odd one out."""
    if y.ndim == 3:
        return y
    return y.flatten(2).transpose(1, 2) if y.shape[2] == y.shape[3] else y.flatten(1, 2)


@pytest.mark.parametrize("architecture", [*timm.list_models("test_*"), "coat_lite_tiny"])
def test_families_of_timm(architecture: str) -> None:
    encoder = load_encoder(f"timm:{architecture}", EncoderOptions(weights="random"))
    assert isinstance(encoder, ImageEncoder)
    assert encoder.grid is not None
    data = photo(100, 80)
    (found_TD,) = hidden_states(encoder, [data])
    look = encoder.look
    with torch.inference_mode():
        y = encoder.module.network.forward_features(normalised(data, look.image_size, look.mean, look.std))
    assert_close(found_TD, plain_tokens(y, encoder.grid.prefix)[0])
    assert encoder.grid.height == encoder.grid.width > 1
    said = getattr(encoder.module.network, "num_prefix_tokens", None)
    assert encoder.grid.prefix == (said if said is not None else 1 if architecture[0] in "cv" else 0)


@pytest.mark.parametrize("layers", ["last", "-1", "-2"])
@pytest.mark.parametrize("name", ["vit", "beit", "swin", "mobilenetv2"])
def test_tokens_are_in_reading_order(name: str, layers: str, tmp_path: Path) -> None:
    """A change in one place of the image shows most in the token of that place."""
    entry_architecture = {
        "vit": "vit_base_patch16_384",
        "beit": "beit_base_patch16_384",
        "swin": "swin_base_patch4_window7_224",
        "mobilenetv2": "mobilenetv2_100",
    }[name]
    args = {"depth": 1} if name in ("vit", "beit") and layers != "-2" else {}
    if name == "swin":
        args = {"img_size": 256}
    write_folder(tmp_path, entry_architecture, **args)
    size = {"swin": 256, "mobilenetv2": 256}.get(name, SIZE)
    encoder = load_encoder(name, EncoderOptions(weights=str(tmp_path), layers=layers, image_size=size))
    assert encoder.grid is not None
    height, width, prefix = encoder.grid.height, encoder.grid.width, encoder.grid.prefix
    grey = np.full((size, size, 3), 128, dtype=np.uint8)
    cell = size // height
    for row, column in ((0, width - 1), (height - 1, 0), (1, 1), (height - 2, width - 1)):
        marked = grey.copy()
        marked[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = (250, 10, 90)
        files = [encoded(Image.fromarray(pixels), "PNG") for pixels in (grey, marked)]
        before_TD, after_TD = hidden_states(encoder, files)
        change_T = (after_TD - before_TD)[prefix:].norm(dim=1)
        if name == "mobilenetv2":  # so many convolutions see far around: on which side is the change?
            weights_HW = change_T.square().view(height, width)
            weights_HW /= weights_HW.sum()
            assert (float(weights_HW[height // 2 :].sum()) > 0.5) == (row >= height // 2)
            assert (float(weights_HW[:, width // 2 :].sum()) > 0.5) == (column >= width // 2)
        else:
            assert divmod(int(change_T.argmax()), width) == (row, column)


def test_networks_without_a_grid_are_refused() -> None:
    with pytest.raises(UsageError, match="no grid of tokens"):
        load_encoder("timm:crossvit_9_240", EncoderOptions(weights="random"))


def test_a_size_that_patches_do_not_divide_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, "vit_base_patch16_384")
    with pytest.raises(UsageError, match="--image-size 96 or 112"):
        load_encoder("vit", EncoderOptions(weights=str(tmp_path), image_size=100))


def test_a_size_too_small_for_the_network_is_refused() -> None:
    with pytest.raises(UsageError, match="8 x 8"):
        load_encoder("timm:inception_v4", EncoderOptions(weights="random", image_size=8))


# Layers


@pytest.mark.parametrize(
    ("architecture", "name"), [("vit_base_patch16_384", "vit"), ("deit_base_distilled_patch16_224", None)]
)
@pytest.mark.parametrize("layer", [-1, -2])
def test_layers_are_block_outputs(architecture: str, name: str | None, layer: int, tmp_path: Path) -> None:
    model = copy.deepcopy(write_folder(tmp_path, architecture))  # it gets hooks
    options = EncoderOptions(weights=str(tmp_path), layers=str(layer), image_size=SIZE)
    encoder = load_encoder(name or f"timm:{architecture}", options)
    outputs: list[Tensor] = []
    for block in model.get_submodule("blocks").children():
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    data = photo()
    look = encoder.look  # type: ignore[attr-defined]
    with torch.inference_mode():
        model(normalised(data, SIZE, look.mean, look.std))
    assert len(outputs) == 2
    assert_close(hidden_states(encoder, [data])[0], outputs[layer][0])
    assert encoder.recipe["layers"] == str(layer)  # a norm follows the last block, so "-1" is not "last"


def test_layers_of_stages(tmp_path: Path) -> None:
    """Swin and MobileNet have stages: the map of the one before the last is twice as fine."""
    for architecture, name, grid in (
        ("swin_base_patch4_window7_224", "swin", TokenGrid(height=4, width=4)),
        ("mobilenetv2_100", "mobilenetv2", TokenGrid(height=4, width=4)),
    ):
        folder = tmp_path / name
        model = write_folder(folder, architecture)
        encoder = load_encoder(name, EncoderOptions(weights=str(folder), layers="-2", image_size=SIZE))
        assert encoder.grid == grid
        data = photo()
        x = normalised(data, SIZE, timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD)
        with torch.inference_mode():
            stages = model.forward_intermediates(x, intermediates_only=True)  # type: ignore[operator]
        assert_close(hidden_states(encoder, [data])[0], stages[-2][0].flatten(1).mT)


def test_last_block_without_a_norm_behind_is_last(tmp_path: Path) -> None:
    write_folder(tmp_path, "beit_base_patch16_384")  # its norm comes after pooling
    options = EncoderOptions(weights=str(tmp_path), image_size=SIZE)
    last = load_encoder("beit", options)
    by_number = load_encoder("beit", EncoderOptions(weights=str(tmp_path), image_size=SIZE, layers="-1"))
    assert by_number.recipe == last.recipe


def test_layer_words() -> None:
    assert [layer_index(layers) for layers in ("last", "-1", "-12")] == [None, -1, -12]
    for layers in ("all", "0", "1", "-0", "-1,-4", "--1", "last "):
        with pytest.raises(UsageError, match="--layers"):
            layer_index(layers)


# Preprocessing


def test_what_is_said_goes_before_the_models_own(tmp_path: Path) -> None:
    write_folder(tmp_path, "mobilenetv2_100")
    own = load_encoder("mobilenetv2", EncoderOptions(weights=str(tmp_path)))
    assert own.recipe["image_size"] == 224
    assert own.recipe["mean"] == list(timm.data.IMAGENET_DEFAULT_MEAN)
    options = EncoderOptions(weights=str(tmp_path), image_size=96, mean=HALF, std=(0.25, 0.3, 0.35), crop=True)
    said = load_encoder("mobilenetv2", options)
    assert said.grid == TokenGrid(height=3, width=3)
    changed = {key: value for key, value in said.recipe.items() if own.recipe[key] != value}
    assert changed == {
        "image_size": 96,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.3, 0.35],
        "crop": "center",
        "crop_pct": 0.875,
    }
    data = photo(200, 100)
    transform = timm.data.create_transform(
        (3, 96, 96), interpolation="bicubic", crop_pct=0.875, mean=HALF, std=(0.25, 0.3, 0.35)
    )
    with torch.inference_mode():
        pixels = transform(Image.open(io.BytesIO(data)))[None]
        expected = said.module.network.forward_features(pixels).flatten(2).mT[0]
    assert_close(hidden_states(said, [data])[0], expected)


def test_pixels_travel_as_bytes_and_are_normalised_as_torchvision_does(tmp_path: Path) -> None:
    write_folder(tmp_path, "vit_base_patch16_384")
    encoder = load_encoder("vit", EncoderOptions(weights=str(tmp_path), image_size=SIZE, mean=(0.1, 0.2, 0.3)))
    ramp = np.arange(SIZE * SIZE * 3, dtype=np.int64).reshape(SIZE, SIZE, 3) % 256
    data = encoded(Image.fromarray(ramp.astype(np.uint8)), "PNG")
    batch = encoder.collate([encoder.prepare(data)])
    assert batch["pixels"].dtype == torch.uint8
    found = encoder.module.normalise(batch["pixels"])
    assert torch.equal(found, normalised(data, SIZE, (0.1, 0.2, 0.3), HALF))


def test_paths_are_no_images(tmp_path: Path) -> None:
    write_folder(tmp_path, "mobilenetv2_100")
    with pytest.raises(TypeError):
        load_encoder("mobilenetv2", EncoderOptions(weights=str(tmp_path), image_size=SIZE)).prepare("cat.jpg")


def test_reduced_precision(tmp_path: Path) -> None:
    write_folder(tmp_path, "vit_base_patch16_384")
    encoder = load_encoder("vit", EncoderOptions(weights=str(tmp_path), image_size=SIZE))
    data = photo()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (reduced_TD,) = hidden_states(encoder, [data])
    (full_TD,) = hidden_states(encoder, [data])
    assert not torch.equal(reduced_TD, full_TD)
    assert (reduced_TD.float() - full_TD).abs().max() < 0.1 * full_TD.abs().max()


# Real sizes and real weights


@pytest.mark.parametrize("name", ["vit", "beit"])
def test_real_size(name: str) -> None:
    """ViT-B/16 and BEiT-B/16 at 384 px with random weights: 577 tokens of width 768."""
    encoder = load_encoder(name, EncoderOptions(weights="random", seed=3))
    assert encoder.grid == TokenGrid(height=24, width=24, prefix=1)
    assert encoder.dim == 768
    assert encoder.recipe["image_size"] == 384
    assert encoder.recipe["mean"] == [0.5, 0.5, 0.5]
    assert sum(parameter.numel() for parameter in encoder.module.parameters()) > 85_000_000
    data = photo(640, 480)
    (found_TD,) = hidden_states(encoder, [data])
    assert found_TD.shape == (577, 768)
    with torch.inference_mode():
        expected = encoder.module.network.forward_features(normalised(data, 384, HALF, HALF))[0]
    assert_close(found_TD, expected)


@pytest.fixture(scope="module")
def real_mobilenet(shared: Path) -> nn.Module:
    model = timm.create_model("mobilenetv2_100", num_classes=1001, pad_type="same").eval()
    model.load_state_dict(load_file(shared / "weights" / "mobilenetv2_100.safetensors"), strict=True)
    return model


@pytest.fixture(scope="module")
def mobilenet(shared: Path) -> Encoder:
    """Nothing said of its 1,001 classes: they are read off the checkpoint."""
    options = EncoderOptions(
        weights=str(shared / "weights" / "mobilenetv2_100.safetensors"),
        model_args={"pad_type": "same"},
        mean=HALF,
        std=HALF,
    )
    return load_encoder("mobilenetv2", options)


def coco(shared: Path, number: int) -> bytes:
    return (shared / "data" / "vqa-v2-mini" / "images" / f"COCO_train2014_{number:012d}.jpg").read_bytes()


def test_real_weights_give_timms_tokens(shared: Path, mobilenet: Encoder, real_mobilenet: nn.Module) -> None:
    assert mobilenet.grid == TokenGrid(height=7, width=7)
    assert mobilenet.dim == 1280
    files = [coco(shared, number) for number in (16825, 16188, 25)]
    for data, found_TD in zip(files, hidden_states(mobilenet, files), strict=True):
        with torch.inference_mode():
            expected = real_mobilenet.forward_features(normalised(data, 224, HALF, HALF))  # type: ignore[operator]
        assert_close(found_TD, expected.flatten(2).mT[0])


@pytest.mark.parametrize(("number", "label"), [(16825, 340), (28690, 340), (16188, 963), (4260, 963)])
def test_real_weights_know_zebras_and_pizzas(
    number: int, label: int, shared: Path, mobilenet: Encoder, real_mobilenet: nn.Module
) -> None:
    """Mean over tokens, then the checkpoint's own classifier; class 0 is its background class."""
    (hidden_TD,) = hidden_states(mobilenet, [coco(shared, number)])
    classifier: Callable[[Tensor], Tensor] = real_mobilenet.get_submodule("classifier")
    logits = classifier(hidden_TD.mean(0))
    assert int(logits.argmax()) == label + 1
    assert logits.softmax(0).max() > 0.9


def test_wrong_padding_would_show(shared: Path, mobilenet: Encoder) -> None:
    """The same file without pad_type="same" gives other values, and the recipe tells them apart."""
    weights = str(shared / "weights" / "mobilenetv2_100.safetensors")
    other = load_encoder("mobilenetv2", EncoderOptions(weights=weights, mean=HALF, std=HALF))
    assert {k for k, v in other.recipe.items() if mobilenet.recipe[k] != v} == {"config_sha256"}
    data = encoded(quarters(size=(224, 224)), "PNG")
    assert not torch.allclose(hidden_states(other, [data])[0], hidden_states(mobilenet, [data])[0], atol=0.1)


def test_small_networks_are_not_trivial() -> None:
    """The narrow stand-ins of these tests have lively outputs, else equality would say little."""
    for architecture in SMALL:
        with torch.inference_mode():
            y = build(architecture).forward_features(torch.randn(2, 3, SIZE, SIZE))  # type: ignore[operator]
        assert 0.05 < y.std() < 50, architecture
