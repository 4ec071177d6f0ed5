"""UME-res: `ume`, the same with residual and LayerNorm around the attention.

UME after K. Lee (thesis); the residual is this project's, after Vaswani et al. (NeurIPS 2017, arXiv:1706.03762).

    Z = LayerNorm(X + softmax(Q K^T / sqrt(D)) V)    then p_ij, e_ij, a and f as in ume.py

As drawn, attention makes all tokens nearly equal at the start of training, and pairs of equal tokens say little. The
residual keeps them apart.
"""

from __future__ import annotations

from collections.abc import Mapping

from umecache.fusion.ume import UME


class UMEResidual(UME):
    """Attention with residual and LayerNorm, then all pairs, weighted.

    Args:
        dims: modality -> width of its features.
        width: D, the width of tokens, pairs and the fused vector.
        dropout: on the fused vector and inside the residual.
        pairs: "upper" (i <= j), "all" (ordered pairs), "cross" (i < j, of different modalities).
        activation: "tanh", or "tanh2" = tanh(x ln 2), the formula as printed in the source.
        aws_logit: "tanh" (the source), or "linear": unbounded, weights may concentrate; harder to train.
        heads: attention heads (1: the equation as printed).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none", the drawing).
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        pairs: str = "upper",
        activation: str = "tanh",
        aws_logit: str = "tanh",
        heads: int = 1,
        input_norm: str = "layer",
    ) -> None:
        super().__init__(
            dims,
            width=width,
            dropout=dropout,
            pairs=pairs,
            activation=activation,
            aws_logit=aws_logit,
            heads=heads,
            residual=True,
            input_norm=input_norm,
        )
