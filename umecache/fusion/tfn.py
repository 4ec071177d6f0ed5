"""TFN: the outer product of all modalities, each with a constant 1, so that every subset of them has its products.

Zadeh et al., Tensor Fusion Network for Multimodal Sentiment Analysis (EMNLP 2017, arXiv:1707.07250).

    z = [p_1; 1] (x) ... (x) [p_M; 1]    (outer product)        f = gelu(W z + b)

p_m is the mean of H_m P_m over real tokens, P_m to `inner` numbers (the paper: small networks to 32 or 128; an
inference network on top). z has (inner + 1)^M numbers: up to three modalities, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import Hidden, TokenProjection, check_modalities, check_number, check_sizes


class TFN(Fusion):
    """Small projections, their outer product, one hidden layer.

    Args:
        dims: modality -> width of its features, two or three of them.
        width: of the fused vector.
        dropout: on the fused vector.
        inner: width of each projection; the hidden layer sees (inner + 1)^M numbers.
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        inner: int = 32,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        check_modalities("tfn", dims, most=3)
        self.out_dim = width
        self.project = TokenProjection(dims, check_number("inner", inner), input_norm)
        self.hidden = Hidden((inner + 1) ** len(dims), width, dropout)

    def forward(self, features: Features) -> Tensor:
        first_BE, *others = (F.pad(p_BE, (0, 1), value=1) for p_BE in self.project.pooled(features))
        z_BZ = first_BE
        for other_BE in others:
            z_BZ = (z_BZ[:, :, None] * other_BE[:, None]).flatten(1)
        f_BK: Tensor = self.hidden(z_BZ)
        return f_BK
