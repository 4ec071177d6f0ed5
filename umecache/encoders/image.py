"""Image encoders: any network of timm, its tokens in reading order.

    encoder = load_encoder("vit")                                   # 577 x 768: CLS, then 24 x 24
    encoder = load_encoder("mobilenetv2", EncoderOptions(
        weights="../shared/weights/mobilenetv2_100.safetensors",
        model_args={"pad_type": "same"}, mean=(0.5,) * 3, std=(0.5,) * 3))   # 49 x 1280: 7 x 7

Tokens are those of the network's `forward_features` (`layers="last"`: after the final norm where the network has one
there) or of one of its blocks or stages, counted from the end (`layers="-2"`), before any norm. How they lie (channels
first or last, prefix tokens, height and width) is read off a real output, not off names.

Pixels travel as uint8, a quarter of the memory, and are normalised on the device.

Shapes: B batch, S pixels of a side, H x W grid, P prefix tokens, T = P + H W tokens, D width.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import PIL
import timm
import torch
from timm.layers import PatchEmbed, use_fused_attn
from torch import Tensor, nn

from umecache.encoders.base import Encoder, EncoderOptions, Json, LoadContext, Prepared, TokenGrid
from umecache.encoders.models import ModelEntry
from umecache.encoders.pixels import Preprocessing
from umecache.encoders.timm_models import Source, create, find_source
from umecache.encoders.weights import weights_sha256
from umecache.errors import UsageError

MAX_PREFIX = 5  # more tokens than any network puts before the grid without saying so


def build_timm(entry: ModelEntry, options: EncoderOptions, context: LoadContext) -> ImageEncoder:
    """The registry's builder of timm networks.

    Raises:
        UmecacheError: as `timm_models.find_source` and `create`; layers that the network doesn't have.
    """
    layer_index(options.layers)  # before minutes of loading
    source = find_source(entry, options)
    network, facts = create(source, options)
    return ImageEncoder(entry, source, network, facts, options)


class ImageEncoder(Encoder):
    """A frozen network behind the preprocessing that it was trained with.

    Args:
        network: has timm's `forward_features` and, for layers other than "last", `forward_intermediates`.
        facts: `image_size`, `mean`, `std`, `model_args`, and for `crop` also `crop_pct`, `crop_mode`, `interpolation`.
        options: mean and std said here go before those of `facts`.
    """

    modality = "image"
    module: TokenNet

    def __init__(
        self, entry: ModelEntry, source: Source, network: nn.Module, facts: Mapping[str, Any], options: EncoderOptions
    ) -> None:
        self.name = entry.name
        self.look = Preprocessing(
            image_size=facts["image_size"],
            mean=tuple(options.mean or facts["mean"]),
            std=tuple(options.std or facts["std"]),
            crop=options.crop,
            crop_pct=facts.get("crop_pct") or 1.0,
            crop_mode=facts.get("crop_mode") or "center",
            interpolation=facts.get("interpolation") or "bicubic",
        )
        _check_patches(network, self.look.image_size)
        module = TokenNet(network, self.look)
        try:
            grid, self.dim = module.settle(layer_index(options.layers))
        except (RuntimeError, AssertionError, ValueError, IndexError) as error:
            raise UsageError(
                f"{entry.name} can't take images of {self.look.image_size} x {self.look.image_size} pixels.",
                why=str(error).splitlines()[0] if str(error) else type(error).__name__,
                next="leave out --image-size",
            ) from None
        self.module = module.eval()
        self.grid, self.fixed_length = grid, grid.tokens
        self.recipe: dict[str, Json] = {
            "weights_sha256": weights_sha256(network),
            "config_sha256": _config_sha256(source.plain_architecture, facts["model_args"]),
            "layers": "last" if module.index is None else options.layers,
            **self.look.recipe(),
        }
        self.origin: dict[str, Json] = {
            "library": "timm",
            "library_version": timm.__version__,
            "image_library": f"pillow {PIL.__version__}",
            "repo": source.repo,
            "revision": source.revision,
            "weights": "random" if source.path is None else str(source.path),
            "seed": options.seed if source.path is None else None,
            "licence": entry.licence,
            "citation": entry.citation,
            "architecture": source.plain_architecture,
            "attention": "sdpa" if use_fused_attn() else "eager",
        }

    def prepare(self, item: str | bytes) -> Prepared:
        """Pixels [3, S, S] uint8 of an image file's bytes."""
        if isinstance(item, str):
            raise TypeError("an image encoder reads the bytes of an image file")
        return self.look.pixels(item)

    def collate(self, prepared: Sequence[Prepared], pad_to: int | None = None) -> dict[str, Tensor]:
        """Pixels [B, 3, S, S] uint8; images of one encoder have one length, so `pad_to` changes nothing."""
        return {"pixels": torch.from_numpy(np.stack(prepared))}

    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Hidden states [B, T, D]."""
        hidden_BTD: Tensor = self.module(batch["pixels"])
        return hidden_BTD

    def layer_names(self) -> tuple[str, ...]:
        """ "last" (after the final norm), then the outputs of blocks or stages, "-1" and below."""
        lowest = self.module.depth
        same = lowest > 0 and self.at("-1").module.index is None
        return ("last", *(f"-{i}" for i in range(2 if same else 1, lowest + 1)))

    def at(self, layers: str) -> ImageEncoder:
        """The same network read at another layer."""
        view = copy.copy(self)
        view.module = TokenNet(self.module.network, self.look).to(self.module.mean.device).eval()
        grid, view.dim = view.module.settle(layer_index(layers))
        view.grid, view.fixed_length = grid, grid.tokens
        view.recipe = {**self.recipe, "layers": "last" if view.module.index is None else layers}
        return view

    def encode_layers(self, batch: Mapping[str, Tensor], views: Sequence[Encoder]) -> list[Tensor]:
        """Hidden states [B, T, D] of each view, in one pass."""
        nets = [view.module for view in views if isinstance(view, ImageEncoder)]
        return self.module.forward_layers(batch["pixels"], nets) if len(nets) > 1 else [nets[0](batch["pixels"])]


class TokenNet(nn.Module):
    """uint8 pixels [B, 3, S, S] -> hidden states [B, T, D]: normalise, run the network, bring tokens in a row.

    All of it in one `forward`, so that compiling or moving the module takes everything along.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, look: Preprocessing) -> None:
        super().__init__()
        self.network: Any = network
        self.size = look.image_size
        self.register_buffer("mean", torch.tensor(look.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(look.std).view(3, 1, 1), persistent=False)
        self.index: int | None = None  # of forward_intermediates; None: forward_features
        takes = inspect.signature(getattr(network, "forward_intermediates", nn.Identity.forward)).parameters
        self.wishes = {name: True for name in ("stop_early", "return_prefix_tokens") if name in takes}
        self.channels: Literal["first", "last"] | None = None  # of maps; None: tokens come in a row already
        self.whole: bool | None = None  # whether forward_intermediates ends as forward_features does; None: not known

    def settle(self, layer: int | None) -> tuple[TokenGrid, int]:
        """Run one made-up image through, and learn from it how the tokens lie.

        Args:
            layer: from the end (-1, -2, ...), or None for the last after the final norm.

        Returns:
            the token grid and D, both of the real output.
        """
        pattern = torch.arange(3 * self.size * self.size, device=self.mean.device) * 7919 % 256
        with torch.inference_mode():
            x = self.normalise(pattern.to(torch.uint8).view(1, 3, self.size, self.size))
            if layer is not None:
                return self._settle_layer(x, layer)
            return self._settle_last(self.network.forward_features(x))

    def _settle_last(self, y: object) -> tuple[TokenGrid, int]:
        if not isinstance(y, Tensor) or y.ndim not in (3, 4):
            raise _no_tokens(self.network)
        if y.ndim == 3:
            return _row_grid(self.network, y.shape[1]), y.shape[2]
        self.channels = _channels(self.network, y)
        height, width = y.shape[2:] if self.channels == "first" else y.shape[1:3]
        return TokenGrid(height=height, width=width), y.shape[1 if self.channels == "first" else 3]

    def _settle_layer(self, x: Tensor, layer: int) -> tuple[TokenGrid, int]:
        name = type(self.network).__name__
        if not hasattr(self.network, "forward_intermediates"):
            raise UsageError(f"{name} gives no hidden states but the last.", next="--layers last")
        count = len(self.network.forward_intermediates(x, indices=None, intermediates_only=True))
        if layer < -count:
            raise UsageError(
                f"{name} has no layer {layer}.",
                why=f"It has {count} blocks or stages: -1 (last) to {-count}.",
                next="--layers last",
            )
        self.index = count + layer
        prefix_1PD, map_1DHW = self._intermediate(x)
        grid = TokenGrid(
            height=map_1DHW.shape[2], width=map_1DHW.shape[3], prefix=0 if prefix_1PD is None else prefix_1PD.shape[1]
        )
        if layer == -1:
            # Without a norm behind the blocks this is "last", and equal stores should have equal recipes.
            row_1TD, y = self._row(prefix_1PD, map_1DHW), self.network.forward_features(x)
            found = self._settle_last(y)
            if found[0] == grid and torch.equal(self._flat(y), row_1TD):
                self.index = None
        return grid, map_1DHW.shape[1]

    def normalise(self, pixels: Tensor) -> Tensor:
        """As torchvision's ToTensor and Normalize: (pixels / 255 - mean) / std."""
        return ((pixels.to(self.mean.dtype) / 255) - self.mean) / self.std

    def forward(self, pixels: Tensor) -> Tensor:
        """Hidden states [B, T, D]."""
        x = self.normalise(pixels)
        if self.index is not None:
            return self._row(*self._intermediate(x))
        return self._flat(self.network.forward_features(x))

    def forward_layers(self, pixels: Tensor, nets: Sequence[TokenNet]) -> list[Tensor]:
        """What each of `nets`, which share this network, gives for the same pixels."""
        x = self.normalise(pixels)
        final: Any
        wanted = sorted({net.index for net in nets if net.index is not None})
        last = next((net for net in nets if net.index is None), None)
        if last is None or not wanted or self.whole is False:
            found = self._intermediates(x, wanted) if wanted else []
            final = None if last is None else self.network.forward_features(x)
        else:
            final, outputs = self.network.forward_intermediates(
                x, indices=wanted, output_fmt="NCHW", **{k: v for k, v in self.wishes.items() if k != "stop_early"}
            )
            found = [_split(output) for output in outputs]
            if self.whole is None:
                # Some networks end a little earlier there (EfficientNet's head); then "last" takes a pass of its own.
                plain = self.network.forward_features(x)
                self.whole = torch.equal(plain, final)
                final = plain
        rows = dict(zip(wanted, found, strict=True))
        return [net._flat(final) if net.index is None else self._row(*rows[net.index]) for net in nets]

    @property
    def depth(self) -> int:
        """Blocks or stages whose output can be read; 0 where only the last is given."""
        if not hasattr(self.network, "forward_intermediates"):
            return 0
        with torch.inference_mode():
            x = torch.zeros(1, 3, self.size, self.size, device=self.mean.device)
            return len(self.network.forward_intermediates(x, indices=None, intermediates_only=True))

    def _flat(self, y: Tensor) -> Tensor:
        if self.channels is None:
            return y
        return y.flatten(2).transpose(1, 2) if self.channels == "first" else y.flatten(1, 2)

    @staticmethod
    def _row(prefix_BPD: Tensor | None, map_BDHW: Tensor) -> Tensor:
        hidden_BTD = map_BDHW.flatten(2).transpose(1, 2)
        return hidden_BTD if prefix_BPD is None else torch.cat([prefix_BPD, hidden_BTD], dim=1)

    def _intermediate(self, x: Tensor) -> tuple[Tensor | None, Tensor]:
        """Prefix tokens [B, P, D], if any, and the map [B, D, H, W] of one block's or stage's output."""
        (found,) = self._intermediates(x, [self.index])
        return found

    def _intermediates(self, x: Tensor, indices: Sequence[int | None]) -> list[tuple[Tensor | None, Tensor]]:
        """`_intermediate` for several of them."""
        outputs = self.network.forward_intermediates(
            x, indices=list(indices), intermediates_only=True, output_fmt="NCHW", **self.wishes
        )
        return [_split(output) for output in outputs]


def _split(output: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor | None, Tensor]:
    """Prefix tokens, if any, and the map of what `forward_intermediates` gives for one block or stage."""
    return (output[1], output[0]) if isinstance(output, tuple) else (None, output)


def layer_index(layers: str) -> int | None:
    """None for "last", else -1, -2, ... counted from the end."""
    if layers == "last":
        return None
    if re.fullmatch(r"-[1-9]\d{0,3}", layers):
        return int(layers)
    raise UsageError(
        f"--layers {layers!r} is neither 'last' nor a number counted from the end.",
        why="-1 is the last block's output before the final norm, -2 the one below it.",
        next="--layers last, or --layers -2",
    )


def _check_patches(network: nn.Module, size: int) -> None:
    """Refuse sizes that plain patches don't divide: the pixels that are left over would not be seen."""
    embed = getattr(network, "patch_embed", None)
    if not isinstance(embed, PatchEmbed) or getattr(embed, "dynamic_img_pad", False):
        return
    patch = int(embed.patch_size[0])
    if size % patch:
        raise UsageError(
            f"--image-size {size} is no multiple of the network's {patch} x {patch} patches.",
            why=f"The last {size % patch} pixels on the right and at the bottom would not be seen.",
            next=f"--image-size {max(1, size // patch) * patch} or {(size // patch + 1) * patch}",
        )


def _row_grid(network: nn.Module, tokens: int) -> TokenGrid:
    """The grid of tokens that come in a row. Images are squares, so the grid is one, behind the prefix tokens."""
    said = getattr(network, "num_prefix_tokens", None)
    for prefix in range(MAX_PREFIX + 1) if said is None else (int(said),):
        side = math.isqrt(max(0, tokens - prefix))
        if side and prefix + side * side == tokens:
            return TokenGrid(height=side, width=side, prefix=prefix)
    raise _no_tokens(network)


def _channels(network: nn.Module, y: Tensor) -> Literal["first", "last"]:
    """Whether a map is [B, D, H, W] or [B, H, W, D]: as the network declares, else by its width."""
    declared = getattr(network, "output_fmt", None)
    width = getattr(network, "num_features", None)
    last = declared == "NHWC" if declared is not None else y.shape[3] == width and y.shape[1] != width
    if width is not None and y.shape[3 if last else 1] != width:
        raise _no_tokens(network)
    return "last" if last else "first"


def _no_tokens(network: nn.Module) -> UsageError:
    return UsageError(
        f"{type(network).__name__} gives no grid of tokens.",
        why="Its forward_features is neither a map nor a square of tokens behind a few prefix tokens.",
        next="umecache models",
    )


def _config_sha256(architecture: str, model_args: Mapping[str, Any]) -> str:
    """What decides values and shows neither in the weights nor in the pixels, such as pad_type."""
    return hashlib.sha256(json.dumps([architecture, model_args], sort_keys=True).encode()).hexdigest()
