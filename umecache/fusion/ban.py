"""BAN: bilinear attention over all pairs of a question token and an image token, in several glimpses.

Kim, Jun and Zhang, Bilinear Attention Networks (NeurIPS 2018, arXiv:1805.07932).

    A_g = softmax over pairs(sum_k p_gk s(U x_i)_k s(V y_j)_k)             s = relu, one U and V for all glimpses
    x_i <- x_i + P_g sum_ij A_g,ij s(U_g x_i) * s(V_g y_j)    g = 1..G     (residual learning of attention)
    f = sum_i x_i

x_i are the question's tokens, y_j those of the other modality, both after H_m P_m. As in the authors' code, all maps
A_g come from the tokens before the first glimpse. Two modalities, since A_g lies over pairs of one and the other. Left
out: the counting module, which needs image boxes. Eight glimpses in the paper.

Shapes: B batch, T question tokens, V image tokens, G glimpses, K width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import (
    TokenProjection,
    check_modalities,
    check_number,
    check_sizes,
    guide_of,
    masked_softmax,
    zero_padding,
)


class LowRank(nn.Module):
    """relu(U x_i + b) and relu(V y_j + c), the two sides of a bilinear form of low rank."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x_BTK: Tensor, y_BVK: Tensor) -> tuple[Tensor, Tensor]:
        return self.left(x_BTK).relu(), self.right(y_BVK).relu()


class BAN(Fusion):
    """Glimpses of bilinear attention, each added to the question's tokens.

    Args:
        dims: modality -> width of its features, two of them; "text" (else the first) asks.
        width: K, of tokens, of the rank of the bilinear forms and of the fused vector.
        dropout: on the fused vector.
        glimpses: G (8 in the paper).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        glimpses: int = 4,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        check_modalities("ban", dims, most=2)
        check_number("glimpses", glimpses)
        self.out_dim = width
        self.guide = guide_of(dims)
        self.project = TokenProjection(dims, width, input_norm)
        self.attend = LowRank(width)
        # The paper adds a bias to each map's logits; softmax drops it, so there is none.
        self.p_GK = nn.Parameter(torch.empty(glimpses, width).uniform_(-(width**-0.5), width**-0.5))
        self.join = nn.ModuleList(LowRank(width) for _ in range(glimpses))
        self.back = nn.ModuleList(nn.Linear(width, width) for _ in range(glimpses))
        self.dropout = nn.Dropout(dropout)

    def maps(self, features: Features) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Question tokens, their mask, image tokens, and A [B, G, T, V]."""
        parts = self.project(features)
        (x_BTK, x_mask_BT), (y_BVK, y_mask_BV) = parts[self.guide], parts[1 - self.guide]
        left_BTK, right_BVK = self.attend(x_BTK, y_BVK)
        weighed_BGTK = left_BTK[:, None] * self.p_GK[:, None]
        logits_BGTV = (weighed_BGTK.flatten(1, 2) @ right_BVK.mT).view(*weighed_BGTK.shape[:3], right_BVK.shape[1])
        real_BTV = x_mask_BT[:, :, None] & y_mask_BV[:, None]
        a_BGL = masked_softmax(logits_BGTV.flatten(2), real_BTV.flatten(1)[:, None])
        return x_BTK, x_mask_BT, y_BVK, a_BGL.view_as(logits_BGTV)

    def forward(self, features: Features) -> Tensor:
        x_BTK, x_mask_BT, y_BVK, a_BGTV = self.maps(features)
        for a_BTV, join, back in zip(a_BGTV.unbind(1), self.join, self.back, strict=True):
            left_BTK, right_BVK = join(x_BTK, y_BVK)
            glimpse_BK = (left_BTK * (a_BTV @ right_BVK)).sum(1)
            x_BTK = x_BTK + back(glimpse_BK)[:, None]
        f_BK: Tensor = self.dropout(zero_padding(x_BTK, x_mask_BT).sum(1))
        return f_BK

    @torch.no_grad()
    def token_weights(self, features: Features) -> dict[str, Tensor]:
        """How much of the attention, averaged over glimpses, fell on each token: half on either side of a pair."""
        a_BTV = self.maps(features)[3].mean(1)
        question, image = a_BTV.sum(2) / 2, a_BTV.sum(1) / 2
        sides = (question, image) if self.guide == 0 else (image, question)
        return dict(zip(self.project.modalities, sides, strict=True))

    def attention_weights(self, features: Features) -> dict[str, Tensor]:
        """The same: BAN's attention lies on pairs."""
        return self.token_weights(features)
