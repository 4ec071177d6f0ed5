"""MUTAN: a Tucker product whose core is a sum of R rank-one slices.

Ben-younes et al., MUTAN: Multimodal Tucker Fusion for Visual Question Answering (ICCV 2017, arXiv:1705.06676).

    f = sum_r (M_r q~ + b_r) * (N_r v~ + c_r)        q~ = tanh(p_text), v~ = tanh(p_image),  r = 1..R

p_m is the mean of H_m P_m over real tokens (the paper: a GRU's last state, and image regions pooled by attention);
further modalities are further factors. W_o of the paper is the head. Sizes of the paper: 360 numbers each, R = 10
without attention and 5 with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import TokenProjection, check_number, check_sizes, multiply


class MUTAN(Fusion):
    """Pooled projections, R maps of each, multiplied and summed over R.

    Args:
        dims: modality -> width of its features.
        width: width of each projection and of the fused vector.
        dropout: on the fused vector.
        rank: R, slices of the core (10 and 5 in the paper).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        rank: int = 5,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width
        self.rank = check_number("rank", rank)
        self.project = TokenProjection(dims, width, input_norm)
        self.slices = nn.ModuleList(nn.Linear(width, rank * width) for _ in dims)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        pooled = self.project.pooled(features)
        factors = [slices(p_BK.tanh()) for slices, p_BK in zip(self.slices, pooled, strict=True)]
        f_BK: Tensor = self.dropout(multiply(factors).view(-1, self.rank, self.out_dim).sum(1))
        return f_BK
