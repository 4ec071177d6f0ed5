"""MBT, attention bottleneck: modalities attend within themselves and exchange only through a few shared tokens.

Nagrani et al., Attention Bottlenecks for Multimodal Fusion (NeurIPS 2021, arXiv:2107.00135).

    layer l, for each modality m:  [z_m'; b_m] = Transformer_m,l([z_m; b])     then b = mean over m(b_m)
    Transformer(z): z = z + MHA(LN(z)), z = z + FFN(LN(z))
    f = mean over m of LN(CLS_m)

z_m = [CLS_m; H_m P_m], b are learnt bottleneck tokens (4 in the paper). The paper puts such layers on top of a ViT per
modality; here the frozen encoders stand in its place, so all layers are fusion layers. It averages the logits that one
classifier gives for each CLS token; a linear head makes that the logits of their mean, f. At least two layers are
needed for a modality to read what another one wrote; a modality's answer then depends on the others through b alone.

Shapes: B batch, T tokens of one modality, S bottleneck tokens, K width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.blocks import PreNorm, looks, shares
from umecache.fusion.layers import TokenProjection, check_number, check_sizes


class MBT(Fusion):
    """A transformer per modality, joined by bottleneck tokens.

    Args:
        dims: modality -> width of its features.
        width: K, of tokens and of the fused vector.
        dropout: on the fused vector and inside the residuals.
        layers: of each modality's transformer; 2 is the least that lets modalities meet.
        bottlenecks: S, shared tokens (4 in the paper).
        heads: attention heads; they divide the width.
        expand: the feed-forward map is so many times as wide as the tokens (4 in the paper).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        layers: int = 2,
        bottlenecks: int = 4,
        heads: int = 4,
        expand: int = 2,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        check_number("layers", layers, least=2)
        self.out_dim = width
        self.project = TokenProjection(dims, width, input_norm)
        self.cls_M1K = nn.Parameter(0.02 * torch.randn(len(dims), 1, width))
        self.bottleneck_SK = nn.Parameter(0.02 * torch.randn(check_number("bottlenecks", bottlenecks), width))
        self.stacks = nn.ModuleList(
            nn.ModuleList(PreNorm(width, heads, expand, dropout) for _ in dims) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def streams(self, features: Features) -> list[Tensor]:
        """[CLS_m; tokens] of each modality behind all layers, [B, 1 + T, K], in the order of `dims`."""
        parts = self.project(features)
        batch, shared = parts[0][0].shape[0], len(self.bottleneck_SK)
        b_BSK = self.bottleneck_SK.expand(batch, -1, -1)
        z = [torch.cat((cls.expand(batch, -1, -1), x), 1) for cls, (x, _) in zip(self.cls_M1K, parts, strict=True)]
        # CLS and bottleneck tokens are always real.
        masks = [F.pad(mask, (1, shared), value=True) for _, mask in parts]
        for stack in self.stacks:
            out = [
                block(torch.cat((z_BTK, b_BSK), 1), mask)
                for block, z_BTK, mask in zip(cast(nn.ModuleList, stack), z, masks, strict=True)
            ]
            z = [both[:, :-shared] for both in out]
            b_BSK = torch.stack([both[:, -shared:] for both in out]).mean(0)
        return z

    def forward(self, features: Features) -> Tensor:
        cls_BMK = torch.stack([z_BTK[:, 0] for z_BTK in self.streams(features)], 1)
        f_BK: Tensor = self.dropout(self.norm(cls_BMK).mean(1))
        return f_BK

    def attention_weights(self, features: Features) -> dict[str, Tensor]:
        """Attention that each token received in its own stream; what falls on CLS and the bottleneck is left out."""
        masks = [features[name][1] for name in self.project.modalities]
        shared = len(self.bottleneck_SK)
        found = [torch.zeros_like(mask_BT, dtype=torch.float32) for mask_BT in masks]
        for number, look in enumerate(looks(self, lambda: self.streams(features))):
            # The stream looks at itself: those who ask are those looked at.
            found[number % len(masks)] += look.weights(look.real)[:, 1:-shared]
        return shares(found, self.project.modalities)

    def joint_tokens(self, features: Features) -> dict[str, tuple[Tensor, Tensor]]:
        """Tokens behind all layers, without CLS."""
        named = zip(self.project.modalities, self.streams(features), strict=True)
        return {name: (z_BTK[:, 1:], features[name][1]) for name, z_BTK in named}
