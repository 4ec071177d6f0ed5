"""EVC, efficient vector combination: cross-modal attention, then the mean over all pairs of tokens.

The second row of UME's ablation (K. Lee, Research on Efficient Modality Fusion for Enhanced Uni-modal Ensemble,
thesis).

    Z = attention(concat_m(H_m P_m))    U_k = Z W_k^T, k = 1..4
    p_ij = tanh(U1_i + U2_j + (U3_i - U3_j) + U4_i * U4_j)    f = mean over pairs(p_ij)

W_k act on tokens, so a pair costs O(D); with A = U1 + U3, B = U2 - U3, C = U4 it is tanh(A_i + B_j + C_i * C_j).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import CrossModalAttention, TokenProjection, check_choice, check_sizes, join, split
from umecache.fusion.pairs import ACTIVATIONS, PAIRS, pair_pool


class PairMaps(nn.Module):
    """W_1..W_4, each D x D: tokens z [B, N, D] to A, B, C [B, N, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4, width, width))
        nn.init.uniform_(self.weight, -(width**-0.5), width**-0.5)  # as nn.Linear does

    def forward(self, z_BND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        w1, w2, w3, w4 = self.weight
        # Adding weights costs D^2 once; adding tokens would cost a fourth projection of every token.
        a_BND, b_BND, c_BND = F.linear(z_BND, torch.cat((w1 + w3, w2 - w3, w4))).chunk(3, dim=-1)
        return a_BND, b_BND, c_BND


class EVC(Fusion):
    """Attention, then the mean over pairs.

    Args:
        dims: modality -> width of its features.
        width: D, the width of tokens, pairs and the fused vector.
        dropout: on the fused vector, and inside the residual if there is one.
        pairs: "upper" (i <= j), "all" (ordered pairs), "cross" (i < j, of different modalities).
        activation: "tanh", or "tanh2" = tanh(x ln 2), the formula as printed in the source.
        heads: attention heads (1: the equation as printed).
        residual: LayerNorm(X + Z) in place of Z (off: the source's drawing).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none", the drawing).
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        pairs: str = "upper",
        activation: str = "tanh",
        heads: int = 1,
        residual: bool = False,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width
        self.pairs = check_choice("pairs", pairs, PAIRS)
        self.activation = check_choice("activation", activation, ACTIVATIONS)
        self.project = TokenProjection(dims, width, input_norm)
        self.attend = CrossModalAttention(width, heads=heads, residual=residual, dropout=dropout)
        self.combine = PairMaps(width)
        self.dropout = nn.Dropout(dropout)

    def tokens(self, features: Features) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, list[int]]:
        """(A, B, C) [B, N, D], the mask [B, N], and the modality of each token by number."""
        x_BND, mask_BN, counts = join(self.project(features))
        groups = [number for number, count in enumerate(counts) for _ in range(count)]
        return self.combine(self.attend(x_BND, mask_BN)), mask_BN, groups

    def attention_weights(self, features: Features) -> dict[str, Tensor]:
        """Attention that each token received, before the pairs are made."""
        x_BND, mask_BN, counts = join(self.project(features))
        return split(self.attend.weights(x_BND, mask_BN), self.project.modalities, counts)

    def joint_tokens(self, features: Features) -> dict[str, tuple[Tensor, Tensor]]:
        """Z, by modality: what pairs are made of."""
        x_BND, mask_BN, counts = join(self.project(features))
        z = split(self.attend(x_BND, mask_BN), self.project.modalities, counts)
        return {name: (z_BTD, features[name][1]) for name, z_BTD in z.items()}

    def forward(self, features: Features) -> Tensor:
        abc, mask_BN, groups = self.tokens(features)
        f_BD: Tensor = self.dropout(
            pair_pool(*abc, mask_BN, pairs=self.pairs, groups_N=groups, activation=self.activation)
        )
        return f_BD
