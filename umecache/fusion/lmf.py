"""LMF: the tensor fusion of TFN with weights of low rank, so that the outer product is never made.

Liu et al., Efficient Low-rank Multimodal Fusion with Modality-specific Factors (ACL 2018, arXiv:1806.00064).

    f = sum_r prod_m (W_m^r [x_m; 1])        r = 1..R,  x_m: mean of modality m's tokens

which is W z for TFN's outer product z and a weight tensor of rank R (4 in the paper). Any number of modalities: the
cost is a sum over them. The map's bias is the column for the 1; a modality that a record lacks leaves that.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import TokenProjection, check_number, check_sizes, multiply


class LMF(Fusion):
    """R maps of each modality's mean, multiplied over modalities, summed over R.

    Args:
        dims: modality -> width of its features.
        width: of the fused vector.
        dropout: on the fused vector.
        rank: R, of the weight tensor (4 in the paper).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        rank: int = 4,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width
        self.rank = check_number("rank", rank)
        self.project = TokenProjection(dims, rank * width, input_norm)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        product_BL = multiply(self.project.pooled(features, bias_if_empty=True))
        f_BK: Tensor = self.dropout(product_BL.view(-1, self.rank, self.out_dim).sum(1))
        return f_BK
