"""Perceiver pooling: a few learnt latent vectors look at all tokens, then at one another.

Jaegle et al., Perceiver: General Perception with Iterative Attention (ICML 2021, arXiv:2103.03206).

    Z = latents, [S, D];  L times:  Z <- block(Z, X), then Z <- block(Z, Z)        X = concat_m(H_m P_m)
    block(Z, X): Z = Z + MHA(LN(Z), LN(X)), Z = Z + FFN(LN(Z))
    f = mean over latents(Z)

The paper adds Fourier positions and modality codes to X; here the encoders and each modality's own P_m put them there.
It shares weights between repetitions and stacks more self-attention; here every block has its own. N tokens cost S N,
not N^2.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.blocks import PreNorm, looks
from umecache.fusion.layers import TokenProjection, check_number, check_sizes, join, split


class Perceiver(Fusion):
    """Latents that read all tokens, averaged.

    Args:
        dims: modality -> width of its features.
        width: of tokens, latents and of the fused vector.
        dropout: on the fused vector and inside the residuals.
        latents: S, learnt vectors (512 in the paper, for 50,000 inputs).
        layers: L, readings of the tokens.
        heads: attention heads; they divide the width.
        expand: the feed-forward map is so many times as wide as the tokens (1 in the paper).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        latents: int = 32,
        layers: int = 1,
        heads: int = 4,
        expand: int = 2,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width
        self.project = TokenProjection(dims, width, input_norm)
        self.latents_SK = nn.Parameter(0.02 * torch.randn(check_number("latents", latents), width))
        blocks = range(check_number("layers", layers))
        self.read = nn.ModuleList(PreNorm(width, heads, expand, dropout, cross=True) for _ in blocks)
        self.think = nn.ModuleList(PreNorm(width, heads, expand, dropout) for _ in blocks)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        x_BNK, mask_BN, _ = join(self.project(features))
        z_BSK = self.latents_SK.expand(len(x_BNK), -1, -1)
        always_BS = mask_BN.new_ones(z_BSK.shape[:2])
        for read, think in zip(self.read, self.think, strict=True):
            z_BSK = think(read(z_BSK, mask_BN, x_BNK), always_BS)
        f_BK: Tensor = self.dropout(z_BSK.mean(1))
        return f_BK

    def attention_weights(self, features: Features) -> dict[str, Tensor]:
        """Attention of the latents on the tokens, averaged over readings."""
        reads = looks(self, lambda: self(features))[::2]  # what follows each is latents that look at latents
        always_BS = reads[0].real.new_ones(reads[0].asking.shape[:2])
        given_BN = torch.stack([look.weights(always_BS) for look in reads]).mean(0)
        counts = [features[name][1].shape[1] for name in self.project.modalities]
        return split(given_BN, self.project.modalities, counts)
