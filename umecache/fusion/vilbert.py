"""Co-attention in the style of ViLBERT: a stream per modality, whose queries look at the other streams' tokens.

Lu et al., ViLBERT: Pretraining Task-Agnostic Visiolinguistic Representations (NeurIPS 2019, arXiv:1908.02265).

    Z_m <- TRM(Z_m, Z_others), all m at once     (co-attention)     L times, each followed by
    Z_m <- TRM(Z_m, Z_m)                         (self-attention)
    TRM(Z, S): Z = LN(Z + MHA(Z, S)), Z = LN(Z + FFN(Z))
    f = prod_m mean over real tokens(Z_m)

Z_m start as H_m P_m: the frozen encoders stand for the streams' lower layers. The paper multiplies the states of two
added tokens, [CLS] and [IMG]; here the means of the streams stand for them. Of more than two modalities each one looks
at all the others together. No pre-training. In the paper L = 6, text 768 and image 1,024 wide.

Shapes: B batch, T tokens of one modality, K width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.blocks import FeedForward, MultiHead, looks, shares
from umecache.fusion.layers import TokenProjection, check_number, check_sizes, masked_mean, multiply


class PostNorm(nn.Module):
    """TRM(Z, S): LN(Z + MHA(Z, S)), then LN(Z + FFN(Z))."""

    def __init__(self, width: int, heads: int, expand: int, dropout: float) -> None:
        super().__init__()
        self.attend, self.feed = MultiHead(width, heads), FeedForward(width, expand)
        self.norm_attend, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, z_BTK: Tensor, seen_BNK: Tensor, mask_BN: Tensor) -> Tensor:
        z_BTK = self.norm_attend(z_BTK + self.dropout(self.attend(z_BTK, seen_BNK, mask_BN)))
        out_BTK: Tensor = self.norm_feed(z_BTK + self.dropout(self.feed(z_BTK)))
        return out_BTK


class ViLBERT(Fusion):
    """Streams that look at one another and at themselves, their means multiplied.

    Args:
        dims: modality -> width of its features.
        width: K, of tokens and of the fused vector.
        dropout: on the fused vector and inside the residuals.
        layers: L, pairs of co-attention and self-attention (6 in the paper).
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
        layers: int = 1,
        heads: int = 4,
        expand: int = 2,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width
        self.project = TokenProjection(dims, width, input_norm)
        self.layers = nn.ModuleList(
            nn.ModuleList(PostNorm(width, heads, expand, dropout) for _ in dims)
            for _ in range(2 * check_number("layers", layers))
        )
        self.dropout = nn.Dropout(dropout)

    def streams(self, features: Features) -> list[tuple[Tensor, Tensor]]:
        """Each modality's tokens behind all layers, and their mask, in the order of `dims`."""
        parts = self.project(features)
        z, masks = [tokens for tokens, _ in parts], [mask for _, mask in parts]
        for number, layer in enumerate(self.layers):
            seen = z, masks
            if number % 2 == 0:
                seen = _others(z), _others(masks)
            z = [block(*each) for block, *each in zip(cast(nn.ModuleList, layer), z, *seen, strict=True)]
        return list(zip(z, masks, strict=True))

    def forward(self, features: Features) -> Tensor:
        means = [masked_mean(z_BTK, mask_BT) for z_BTK, mask_BT in self.streams(features)]
        f_BK: Tensor = self.dropout(multiply(means))
        return f_BK

    def attention_weights(self, features: Features) -> dict[str, Tensor]:
        """Attention that each token received, from other streams and its own; every stream counts alike."""
        masks = [features[name][1] for name in self.project.modalities]
        found = [torch.zeros_like(mask_BT, dtype=torch.float32) for mask_BT in masks]
        for number, look in enumerate(looks(self, lambda: self.streams(features))):
            layer, asking = divmod(number, len(masks))
            seen = [asking] if layer % 2 else [other for other in range(len(masks)) if other != asking]
            given = torch.split(look.weights(masks[asking]), [masks[other].shape[1] for other in seen], dim=1)
            for other, part_BT in zip(seen, given, strict=True):
                found[other] += part_BT
        return shares(found, self.project.modalities)

    def joint_tokens(self, features: Features) -> dict[str, tuple[Tensor, Tensor]]:
        """Z of each stream."""
        return dict(zip(self.project.modalities, self.streams(features), strict=True))


def _others(parts: list[Tensor]) -> list[Tensor]:
    """For each part, all the others along the sequence."""
    joined = []
    for number in range(len(parts)):
        rest = parts[:number] + parts[number + 1 :]
        joined.append(rest[0] if len(rest) == 1 else torch.cat(rest, 1))
    return joined
