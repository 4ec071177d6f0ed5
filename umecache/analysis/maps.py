"""Where a trained head looks: one number per token, from Grad-CAM, attention or pair weights. No encoder is needed.

    target_B, chance_B = predicted(model, features)
    maps = grad_cam(model, features, target_B, keep={"image": grid_places(grid)})     # modality -> [B, T], >= 0

Grad-CAM (Selvaraju et al., ICCV 2017, arXiv:1610.02391, equations 1 and 2), with the cached tokens as the feature maps:

    alpha_d = mean over positions t of dy_c / dA_td        map_t = relu(sum_d alpha_d A_td)

One weight per channel for all positions, as in the paper; not the gradient of each token times itself. y_c is the logit
of the answer in question, before the softmax. Prefix tokens (CLS, registers) have no position: they enter neither the
mean nor the map. Text is treated alike, its tokens being the positions.

Shapes: B questions, T tokens of a modality, D width, C answer classes, S steps.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from umecache.encoders.base import TokenGrid
from umecache.fusion.base import Features
from umecache.training.model import FusionClassifier

KINDS = ("gradcam", "attention", "pairs")
"""What can be drawn: Grad-CAM of any method; attention and pair weights of those that have them."""


def mixed(model: FusionClassifier, features: Features) -> Features:
    """Features as the fusion sees them: layers of one modality mixed, where the run has several."""
    if model.mix is None:
        return features
    with torch.no_grad():
        joined: Features = model.mix(features)
    return joined


def logits_of(model: FusionClassifier, features: Features) -> Tensor:
    """Logits [B, C] of features that are mixed already."""
    logits_BC: Tensor = model.classifier(model.fusion(features))
    return logits_BC


def places(mask_BT: Tensor, grid: TokenGrid | None) -> Tensor:
    """Which tokens have a position [B, T]: the real ones, behind the prefix where there is a grid."""
    kept_BT = mask_BT.clone()
    if grid is not None:
        kept_BT[:, : grid.prefix] = False
    return kept_BT


def grad_cam(
    model: FusionClassifier, features: Features, target_B: Tensor, kept: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Grad-CAM maps [B, T] of some modalities, 0 where a token has no position.

    Args:
        features: mixed ones.
        target_B: the class that is explained.
        kept: modality -> its tokens with a position [B, T] (`places`).

    Returns:
        Modality -> map; one that the method does not look at is left out.
    """
    # Without grad: a head's weights need none, and copies spare the caller's tensors.
    leaves = {
        name: (tokens.detach().clone().requires_grad_(name in kept), mask) for name, (tokens, mask) in features.items()
    }
    with torch.enable_grad():
        score = logits_of(model, leaves).gather(1, target_B[:, None]).sum()  # questions don't see each other
        names = list(kept)
        gradients = torch.autograd.grad(score, [leaves[name][0] for name in names], allow_unused=True)
    maps = {}
    for name, gradient_BTD in zip(names, gradients, strict=True):
        if gradient_BTD is not None:
            maps[name] = class_activation(gradient_BTD, features[name][0], kept[name])
    return maps


def class_activation(gradient_BTD: Tensor, tokens_BTD: Tensor, kept_BT: Tensor) -> Tensor:
    """relu(sum_d alpha_d A_td) [B, T], alpha the gradient averaged over the kept tokens; 0 at all others."""
    kept_BT1 = kept_BT[..., None]
    count_B1 = kept_BT.sum(1, keepdim=True).clamp(min=1)
    alpha_BD = gradient_BTD.masked_fill(~kept_BT1, 0).sum(1) / count_B1
    map_BT = (tokens_BTD.masked_fill(~kept_BT1, 0) @ alpha_BD[..., None]).squeeze(-1).relu()
    return map_BT.masked_fill(~kept_BT, 0)


@torch.no_grad()
def weight_maps(
    model: FusionClassifier, features: Features, kind: str, kept: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """Attention ("attention") or pair weights ("pairs") of some modalities' tokens [B, T], 0 where a token has no
    position; None where the method has none."""
    found = model.fusion.attention_weights(features) if kind == "attention" else model.fusion.token_weights(features)
    if found is None:
        return None
    return {name: found[name].masked_fill(~kept_BT, 0) for name, kept_BT in kept.items() if name in found}


def maps_of(
    model: FusionClassifier, features: Features, kind: str, target_B: Tensor, kept: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """Maps of one kind, modality -> [B, T]; None where the method has none of it."""
    if kind == "gradcam":
        return grad_cam(model, features, target_B, kept)
    return weight_maps(model, features, kind, kept)


@torch.no_grad()
def chances(model: FusionClassifier, features: Features, *, soft: bool) -> Tensor:
    """What the head gives each answer [B, C]: softmax, or with `soft` (trained on soft scores) the sigmoid."""
    logits_BC = logits_of(model, features)
    return logits_BC.sigmoid() if soft else logits_BC.softmax(-1)
