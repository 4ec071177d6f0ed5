"""Cross-modal attention: all tokens of all modalities attend to each other, then the mean of real tokens.

The first row of UME's ablation (K. Lee, Research on Efficient Modality Fusion for Enhanced Uni-modal Ensemble, thesis);
scaled dot-product attention after Vaswani et al. (NeurIPS 2017, arXiv:1706.03762).

    X = concat_m(H_m P_m)    Z = softmax(Q K^T / sqrt(D)) V    f = mean over real tokens(Z)
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import CrossModalAttention, TokenProjection, check_sizes, join, masked_mean, split


class Attention(Fusion):
    """Attention over the tokens of all modalities, mean-pooled.

    Args:
        dims: modality -> width of its features.
        width: D, the width of tokens and of the fused vector.
        dropout: on the fused vector, and inside the residual if there is one.
        heads: attention heads (1: the equation as printed).
        residual: LayerNorm(X + Z) in place of Z (off: the source's drawing).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none", the drawing).
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        heads: int = 1,
        residual: bool = False,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width
        self.project = TokenProjection(dims, width, input_norm)
        self.attend = CrossModalAttention(width, heads=heads, residual=residual, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        x_BND, mask_BN, _ = join(self.project(features))
        f_BD: Tensor = self.dropout(masked_mean(self.attend(x_BND, mask_BN), mask_BN))
        return f_BD

    def attention_weights(self, features: Features) -> dict[str, Tensor]:
        """Attention that each token received."""
        x_BND, mask_BN, counts = join(self.project(features))
        return split(self.attend.weights(x_BND, mask_BN), self.project.modalities, counts)

    def joint_tokens(self, features: Features) -> dict[str, tuple[Tensor, Tensor]]:
        """Z, by modality."""
        x_BND, mask_BN, counts = join(self.project(features))
        z = split(self.attend(x_BND, mask_BN), self.project.modalities, counts)
        return {name: (z_BTD, features[name][1]) for name, z_BTD in z.items()}
