"""MFH: MFB blocks in a cascade, each one's product multiplied into the next.

Yu et al., Beyond Bilinear: Generalized Multi-modal Factorized High-order Pooling for Visual Question Answering (IEEE
TNNLS 2018, arXiv:1708.03619).

    e_i = (U_i^T x + b_i) * (V_i^T y + c_i) * e_(i-1),  e_0 = 1,  i = 1..order
    z_i = norm(sum-pool of K numbers each(e_i)),  norm(z) = u / |u|, u = sign(z) sqrt|z|
    f = [z_1; ...; z_order]

x and y are means of the modalities' tokens (the paper: pooled by co-attention). Each block gives width / order numbers
(rounded up), so that f is as wide as with `mfb`, which is order 1. Further modalities are further factors; one that a
record lacks is a vector of zeros, of which the map leaves its bias. K = 5, order 2, 1,000 numbers each in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import TokenProjection, check_number, check_sizes, multiply, power_normalise


class MFH(Fusion):
    """A cascade of factorised bilinear blocks, side by side.

    Args:
        dims: modality -> width of its features.
        width: of the fused vector, rounded up to a multiple of the order.
        dropout: on each block's product, as in the paper.
        factors: K, products in each sum (5 in the paper).
        order: blocks in the cascade (2 in the paper).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        factors: int = 5,
        order: int = 2,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.factors, self.order = check_number("factors", factors), check_number("order", order)
        self.size = -(-width // order)
        self.out_dim = order * self.size
        self.project = TokenProjection(dims, self.out_dim * factors, input_norm)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        pooled = [p_BL.chunk(self.order, 1) for p_BL in self.project.pooled(features, bias_if_empty=True)]
        products = (self.dropout(multiply(factors)) for factors in zip(*pooled, strict=True))
        expanded = accumulate(products, torch.mul)  # e_1, e_2, ...
        return torch.cat([power_normalise(e_BE.view(-1, self.size, self.factors).sum(2)) for e_BE in expanded], 1)
