"""Narrow networks of timm's real classes, saved as checkpoint folders, and timm's own way of running them.

write_folder(folder, "vit_base_patch16_384", seed=0)
timm_tokens(folder, "vit_base_patch16_384", png_bytes)      # [T, D], none of our code
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms import functional

SIZE = 64  # pixels


def _as_row(y: Tensor) -> Tensor:
    return y


def _channels_first(y: Tensor) -> Tensor:
    return y.flatten(2).transpose(1, 2)


def _channels_last(y: Tensor) -> Tensor:
    return y.flatten(1, 2)


@dataclass(frozen=True)
class Small:
    """How an architecture is made small, and how its tokens lie at 64 px."""

    args: Mapping[str, Any]
    row: Callable[[Tensor], Tensor]
    grid: tuple[int, int, int]  # height, width, prefix tokens
    facts: Mapping[str, Any] = field(default_factory=dict)


_PATCHES = {"img_size": SIZE, "embed_dim": 32, "depth": 2, "num_heads": 4}
SMALL: dict[str, Small] = {
    "vit_base_patch16_384": Small(_PATCHES, _as_row, (4, 4, 1), {"mean": (0.5,) * 3, "std": (0.5,) * 3}),
    "beit_base_patch16_384": Small(_PATCHES, _as_row, (4, 4, 1), {"mean": (0.5,) * 3, "std": (0.5,) * 3}),
    "deit_base_patch16_224": Small(_PATCHES, _as_row, (4, 4, 1)),
    "deit_base_distilled_patch16_224": Small(_PATCHES, _as_row, (4, 4, 2)),
    "swin_base_patch4_window7_224": Small(
        {"img_size": SIZE, "embed_dim": 8, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 4, 8), "window_size": 2},
        _channels_last,
        (2, 2, 0),
    ),
    "mobilenetv2_100": Small({"pad_type": "same"}, _channels_first, (2, 2, 0)),
    "efficientnet_b0": Small({}, _channels_first, (2, 2, 0)),
    "resnet50": Small({"layers": (1, 1, 1, 1), "base_width": 8}, _channels_first, (2, 2, 0)),
}


@functools.cache
def build(architecture: str, *, seed: int = 0, classes: int = 10, **args: Any) -> nn.Module:
    """The narrow network with weights drawn by `seed`, in eval mode; made once, so leave it as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.create_model(architecture, num_classes=classes, **{**SMALL[architecture].args, **args})
        for parameter in model.parameters():  # biases and layer scales start at 0 or 1, where mistakes don't show
            parameter.data += 0.02 * torch.randn(parameter.shape)
        # Fresh batch norms let signals die out over many layers: let them see some noise, as training would.
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = None  # running mean over all that is seen
        if norms:
            model.train()
            with torch.no_grad():
                model(torch.randn(8, 3, SIZE, SIZE))
    return model.eval()


def write_folder(
    folder: Path, architecture: str, *, seed: int = 0, classes: int = 10, form: bool = True, **args: Any
) -> nn.Module:
    """Save a narrow network as timm does: config.json beside model.safetensors (or, form=False, pytorch_model.bin)."""
    model = build(architecture, seed=seed, classes=classes, **args)
    all_args = {**SMALL[architecture].args, **args}
    model.pretrained_cfg.update(SMALL[architecture].facts)
    timm.models.save_for_hf(model, str(folder), model_args=all_args, safe_serialization=form)
    return model


def normalised(image: bytes, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Pixels [1, 3, S, S] by torchvision: squash, to 0..1, normalise."""
    squashed = Image.open(io.BytesIO(image)).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    pixels: Tensor = functional.normalize(functional.to_tensor(squashed), list(mean), list(std))
    return pixels[None]


def timm_tokens(folder: Path, architecture: str, image: bytes) -> Tensor:
    """Hidden states [T, D] of one image by a plain timm forward from the saved folder."""
    small = SMALL[architecture]
    model = timm.create_model(architecture, num_classes=10, **small.args).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    mean = small.facts.get("mean", timm.data.IMAGENET_DEFAULT_MEAN)
    std = small.facts.get("std", timm.data.IMAGENET_DEFAULT_STD)
    with torch.inference_mode():
        tokens: Tensor = small.row(model.forward_features(normalised(image, SIZE, mean, std)))[0]
    return tokens
