"""GMU: a gated unit that decides, number by number, which modality counts.

Arevalo et al., Gated Multimodal Units for Information Fusion (ICLR 2017 workshop, arXiv:1702.01992).

    h_m = tanh(W_m x_m + b_m)        x_m: mean of modality m's tokens
    two:   f = z * h_1 + (1 - z) * h_2,  z = sigmoid(Z [x_1; x_2] + c)
    more:  f = sum_m z_m * h_m,  z_m = sigmoid(Z_m [x_1; ...; x_M] + c_m)

As in the paper, but for the biases, which it leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import TokenProjection, check_sizes


class GMU(Fusion):
    """Maps of each modality's mean, mixed by gates that see all of them.

    Args:
        dims: modality -> width of its features.
        width: of the fused vector.
        dropout: on the fused vector.
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width
        # One map per modality gives h_m and its part of every gate's sum.
        self.gates = 1 if len(dims) == 2 else len(dims)
        self.project = TokenProjection(dims, width * (1 + self.gates), input_norm)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        pooled = self.project.pooled(features)
        h = [p_BL[:, : self.out_dim].tanh() for p_BL in pooled]
        gates_BL = torch.stack([p_BL[:, self.out_dim :] for p_BL in pooled]).sum(0).sigmoid()
        z = gates_BL.chunk(self.gates, 1)
        if len(h) == 2:
            z = (z[0], 1 - z[0])
        f_BK: Tensor = self.dropout(torch.stack([gate * value for gate, value in zip(z, h, strict=True)]).sum(0))
        return f_BK
