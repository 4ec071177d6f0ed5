"""VGG-16 (Simonyan & Zisserman, ICLR 2015, arXiv:1409.1556): the conv5 token map, and the fc7 vector of the VQA paper.

    load_encoder("vgg16")                                   # 7 x 7 tokens of width 512 at 224 px
    load_encoder("vgg16", EncoderOptions(image_size=448))   # 14 x 14: the map of stacked attention and co-attention
    load_encoder("vgg16", EncoderOptions(layers="-2"))      # 14 x 14 at 224 px: conv5_3 before its pooling
    load_encoder("vgg16-fc7")                               # one token of width 4096

`vgg16` is the fifth block after its pooling (pool5), timm's `forward_features`: a side of S pixels gives S / 32 tokens,
12 x 12 at the thesis' 384 px. Attention models read the same layer at 448 px (Yang et al., arXiv:1511.02274; Lu et al.,
arXiv:1606.00061).

`vgg16-fc7` is the image half of "deeper LSTM Q + norm I" (Antol et al., ICCV 2015, arXiv:1505.00468), "the activations
from the last hidden layer of VGGNet", l2-normalised:

    h = max(0, W7 max(0, W6 pool5 + b6) + b7),   token = h / |h|_2

Sizes other than 224 px are averaged to the 7 x 7 that W6 reads, as torchvision does it. (The paper says VGGNet, its
published code, GT-Vision-Lab/VQA_LSTM_CNN, took the 19 layers; here it is the network with 16.)

Weights: a checkpoint in torchvision's layout (features.*, classifier.0, classifier.3) or timm's (features.*,
pre_logits.fc1, pre_logits.fc2), with or without the classifier; `vgg16` needs features.* alone.

Shapes: B batch, H x W map, D width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import timm
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from umecache.encoders.base import EncoderOptions, LoadContext
from umecache.encoders.image import ImageEncoder
from umecache.encoders.models import ModelEntry
from umecache.encoders.timm_models import find_source, image_facts, image_size
from umecache.encoders.weights import freeze, load_into, load_state, seeded
from umecache.errors import DataError, UsageError

POOL = 7  # side of the map that fc6 reads
CHANNELS, HIDDEN = 512, 4096
_LAYOUT = {  # torchvision's and timm's names -> ours
    r"^classifier\.0\.": "fc6.",
    r"^pre_logits\.fc1\.": "fc6.",
    r"^classifier\.3\.": "fc7.",
    r"^pre_logits\.fc2\.": "fc7.",
}


def build_vgg16(entry: ModelEntry, options: EncoderOptions, context: LoadContext) -> ImageEncoder:
    """The registry's builder of `vgg16` and `vgg16-fc7`.

    Raises:
        UmecacheError: weights that are missing or don't fit, arguments (it takes none), layers that it doesn't have.
    """
    fc7 = entry.name == "vgg16-fc7"
    if fc7 and options.layers != "last":
        raise UsageError(f"{entry.name} has one layer, fc7, not {options.layers!r}.", next="--layers last")
    source = find_source(entry, options)
    if said := sorted({**source.model_args, **options.model_args}.keys() - {"num_classes"}):
        raise UsageError(
            f"{entry.name} takes no argument {said[0]!r}.",
            next=f"umecache extract --model timm:vgg16 --model-arg {said[0]}=...",
        )
    state = None if source.path is None else encoder_state(load_state(source.path), fc7=fc7)
    with seeded(options.seed):
        # The ratio keeps timm's own fc6 and fc7, 119 million weights that are replaced or not needed, from being made.
        network: nn.Module = timm.create_model("vgg16", num_classes=0, mlp_ratio=1 / HIDDEN)
        if fc7:
            network = Fc7(network.get_submodule("features"), *(hidden_sizes(state) if state else (HIDDEN, HIDDEN)))
        else:
            network.pre_logits = nn.Identity()
    if state is not None:
        load_into(network, state, source=str(source.path))
    facts = image_facts(source)
    facts |= {"image_size": image_size(source, facts, options), "model_args": {"token": "fc7"} if fc7 else {}}
    return ImageEncoder(entry, source, freeze(network), facts, options)


class Fc7(nn.Module):
    """The l2-normalised fc7 activation, as one token."""

    def __init__(self, features: nn.Module, fc6: int, fc7: int) -> None:
        super().__init__()
        self.features = features
        self.fc6 = nn.Linear(CHANNELS * POOL * POOL, fc6)
        self.fc7 = nn.Linear(fc6, fc7)

    def forward_features(self, x: Tensor) -> Tensor:
        """Pixels [B, 3, S, S] -> [B, 1, D]."""
        map_BDHW = F.adaptive_avg_pool2d(self.features(x), POOL)
        hidden_BD = F.relu(self.fc7(F.relu(self.fc6(map_BDHW.flatten(1)))))
        return F.normalize(hidden_BD, dim=1)[:, None]


def encoder_state(state: Mapping[str, Tensor], *, fc7: bool) -> dict[str, Tensor]:
    """The weights that the encoder needs, under one layout, whichever the checkpoint has."""
    ours: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for pattern, new in _LAYOUT.items():
            name = re.sub(pattern, new, name)
        if name.startswith("features."):
            ours[name] = tensor
        elif fc7 and name.startswith(("fc6.", "fc7.")):
            # timm keeps fc6 as a 7 x 7 convolution; its weights lie in the same order.
            ours[name] = tensor.flatten(1) if name.endswith("weight") else tensor
    return ours


def hidden_sizes(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Widths of fc6 and fc7."""
    for name in ("fc6.weight", "fc7.weight"):
        if name not in state or state[name].ndim != 2:
            raise DataError(
                f"The checkpoint lacks {name.partition('.')[0]} (classifier.0 and .3, or pre_logits.fc1 and .fc2).",
                why="vgg16-fc7 is the activation of a fully connected layer.",
                next="--model vgg16 needs features.* alone",
            )
    return len(state["fc6.weight"]), len(state["fc7.weight"])
