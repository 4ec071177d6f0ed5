"""FiLM: the question scales and shifts every feature of the image's tokens, block after block.

Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer (AAAI 2018, arXiv:1709.07871).

    (g_l, b_l) = maps of p_text,  l = 1..L
    h_j = relu(W_l y_j + a_l)    y_j <- h_j + relu((1 + g_l) * norm(V_l h_j + c_l) + b_l)
    f = max over real tokens j (W y_j + w)

y_j start as the H_m P_m of all other modalities' tokens, p_text is the mean of the text's. Adapted: tokens have no grid
here, so the paper's 3 x 3 convolution is a map of each token, and its batch norm (without scale and shift of its own) a
norm of each token, since records must not depend on their company. 1 + g is the authors' code. A record without any
token but the text's gives 0. L = 4 in the paper.

Shapes: B batch, N tokens of all but the text, K width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import TokenProjection, check_number, check_sizes, guide_of, join, masked_mean


class ModulatedBlock(nn.Module):
    """h = relu(W y), then h + relu((1 + g) * norm(V h) + b)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, y_BNK: Tensor, g_BK: Tensor, b_BK: Tensor) -> Tensor:
        h_BNK = self.first(y_BNK).relu()
        normed_BNK = F.layer_norm(self.second(h_BNK), h_BNK.shape[-1:])
        out_BNK: Tensor = h_BNK + ((1 + g_BK[:, None]) * normed_BNK + b_BK[:, None]).relu()
        return out_BNK


class FiLM(Fusion):
    """Blocks on the other modalities' tokens, modulated by the pooled text, then a maximum over tokens.

    Args:
        dims: modality -> width of its features; "text" (else the first) modulates.
        width: K, of tokens and of the fused vector.
        dropout: on the fused vector.
        layers: L, modulated blocks (4 in the paper).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        layers: int = 2,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width
        self.guide = guide_of(dims)
        self.project = TokenProjection(dims, width, input_norm)
        self.modulate = nn.Linear(width, 2 * check_number("layers", layers) * width)
        self.blocks = nn.ModuleList(ModulatedBlock(width) for _ in range(layers))
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        parts = self.project(features)
        p_BK = masked_mean(*parts.pop(self.guide))
        y_BNK, mask_BN, _ = join(parts)
        modulations = self.modulate(p_BK).chunk(2 * len(self.blocks), 1)
        for block, g_BK, b_BK in zip(self.blocks, modulations[::2], modulations[1::2], strict=True):
            y_BNK = block(y_BNK, g_BK, b_BK)
        scores_BNK = self.out(y_BNK).masked_fill(~mask_BN[..., None], -torch.inf)
        if not scores_BNK.shape[1]:
            return torch.zeros_like(p_BK)
        f_BK: Tensor = self.dropout(scores_BNK.amax(1).masked_fill(~mask_BN.any(1, keepdim=True), 0))
        return f_BK
