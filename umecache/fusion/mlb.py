"""MLB: low-rank bilinear pooling, two maps multiplied and mapped once more.

Kim et al., Hadamard Product for Low-rank Bilinear Pooling (ICLR 2017, arXiv:1610.04325).

    f = P^T (tanh(U^T x + b) * tanh(V^T y + c)) + d        x, y: means of the modalities' tokens

In the paper x is a question vector and y an image vector pooled by attention, the rank is 1,200 and P^T leads to the
answers; here P^T leads to f, and the head from there. Further modalities are further factors; one that a record lacks
is a vector of zeros, of which the map leaves its bias.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import TokenProjection, check_number, check_sizes, multiply


class MLB(Fusion):
    """Means of tokens mapped to the rank, multiplied, mapped to the width.

    Args:
        dims: modality -> width of its features.
        width: of the fused vector.
        dropout: on the fused vector.
        rank: of the bilinear form, numbers that are multiplied (1,200 in the paper).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        rank: int = 512,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width
        self.project = TokenProjection(dims, check_number("rank", rank), input_norm)
        self.out = nn.Linear(rank, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        factors = [u_BR.tanh() for u_BR in self.project.pooled(features, bias_if_empty=True)]
        f_BK: Tensor = self.dropout(self.out(multiply(factors)))
        return f_BK
