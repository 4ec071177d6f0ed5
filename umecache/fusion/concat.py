"""Concatenation: every modality pooled to one vector, the vectors side by side, one hidden layer.

The "concatenation" baseline of visual question answering (Antol et al., VQA, ICCV 2015, arXiv:1505.00468: features
side by side, then a multi-layer perceptron).

    f = gelu(W [p_1; ...; p_M] + b)        p_m = mean over real tokens(H_m P_m)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import Hidden, TokenProjection, check_sizes


class Concat(Fusion):
    """Pooled projections concatenated.

    Args:
        dims: modality -> width of its features.
        width: width of each projection and of the fused vector.
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
        self.hidden = Hidden(width * len(dims), width, dropout)

    def forward(self, features: Features) -> Tensor:
        f_BK: Tensor = self.hidden(torch.cat(self.project.pooled(features), dim=-1))
        return f_BK
