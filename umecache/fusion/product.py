"""Element-wise product: every modality pooled to one vector of the same width, the vectors multiplied.

The fusion of "deeper LSTM Q + norm I" (Antol et al., VQA, ICCV 2015, arXiv:1505.00468), there between the last hidden
states of an LSTM and VGG's fc7, both mapped to 1,024 by a tanh layer; here between pooled tokens of any encoders.

    f = gelu(W (tanh(p_1) * ... * tanh(p_M)) + b)        p_m = mean over real tokens(H_m P_m)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import Hidden, TokenProjection, check_sizes


class Product(Fusion):
    """Pooled projections multiplied.

    Args:
        dims: modality -> width of its features.
        width: width of each projection and of the fused vector (1,024 in the VQA paper).
        dropout: on the fused vector.
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self, dims: Mapping[str, int], *, width: int = 256, dropout: float = 0.0, input_norm: str = "layer"
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width
        self.project = TokenProjection(dims, width, input_norm)
        self.hidden = Hidden(width, width, dropout)

    def forward(self, features: Features) -> Tensor:
        pooled = [p_BK.tanh() for p_BK in self.project.pooled(features)]
        f_BK: Tensor = self.hidden(torch.stack(pooled).prod(0))
        return f_BK
