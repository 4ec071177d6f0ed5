"""MFB: factorised bilinear pooling, k products summed for each number of the output.

Yu et al., Multi-modal Factorized Bilinear Pooling with Co-attention Learning for Visual Question Answering (ICCV 2017,
arXiv:1708.01471).

    z_o = sum_k (u_ok . x + b_ok) (v_ok . y + c_ok)    k = 1..K, o = 1..F      (expand, multiply, sum-pool)
    f = u / |u|,  u = sign(z) sqrt|z|                                          (power and l2 normalisation)

x and y are means of the modalities' tokens (the paper: question and image pooled by co-attention, which is left out
here). Further modalities are further factors; one that a record lacks is a vector of zeros, of which the map leaves its
bias. K = 5 and F = 1,000 in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import TokenProjection, check_number, check_sizes, multiply, power_normalise


class MFB(Fusion):
    """Means of tokens expanded, multiplied, sum-pooled, normalised.

    Args:
        dims: modality -> width of its features.
        width: of the fused vector.
        dropout: on the product before the sum, as in the paper.
        factors: K, products in each sum (5 in the paper).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        factors: int = 5,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width
        self.factors = check_number("factors", factors)
        self.project = TokenProjection(dims, factors * width, input_norm)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        expanded_BL = self.dropout(multiply(self.project.pooled(features, bias_if_empty=True)))
        return power_normalise(expanded_BL.view(-1, self.out_dim, self.factors).sum(2))
