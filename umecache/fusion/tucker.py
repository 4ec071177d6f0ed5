"""Tucker: the full bilinear core between two small vectors, without a limit on its rank.

Tucker, Some mathematical notes on three-mode factor analysis (Psychometrika 1966), as a fusion in Ben-younes et al.,
MUTAN (ICCV 2017, arXiv:1705.06676), whose core slices are limited to rank R.

    f = T x_1 q~ x_2 v~,  f_k = sum_ij q~_i T_ijk v~_j        q~ = tanh(p_text), v~ = tanh(p_image)

p_m is the mean of H_m P_m over real tokens, P_m to `core` numbers; a modality that a record lacks leaves the bias of
its P_m. Two modalities: the core of three would have core^3 D numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import TokenProjection, check_modalities, check_number, check_sizes


class Tucker(Fusion):
    """Small projections of two modalities, joined by a dense core.

    Args:
        dims: modality -> width of its features, two of them.
        width: of the fused vector.
        dropout: on the fused vector.
        core: width of both projections: the core has core^2 D numbers.
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        core: int = 64,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        check_modalities("tucker", dims, most=2)
        self.out_dim = width
        self.project = TokenProjection(dims, check_number("core", core), input_norm)
        self.core_CCK = nn.Parameter(torch.empty(core, core, width).uniform_(-1 / core, 1 / core))
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        q_BC, v_BC = (p_BC.tanh() for p_BC in self.project.pooled(features, bias_if_empty=True))
        by_q_BCK = (q_BC @ self.core_CCK.flatten(1)).view(-1, *self.core_CCK.shape[1:])
        f_BK: Tensor = self.dropout((v_BC[:, None] @ by_q_BCK).squeeze(1))
        return f_BK
