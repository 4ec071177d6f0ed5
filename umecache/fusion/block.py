"""BLOCK: a block-term product, many small bilinear maps of chunks side by side.

Ben-younes et al., BLOCK: Bilinear Superdiagonal Fusion for Visual Question Answering and Visual Relationship Detection
(AAAI 2019, arXiv:1902.00038).

    q~ = p_text, v~ = p_image, each in C chunks
    z_c = sum_r (M_cr q~_c + m_cr) * (N_cr v~_c + n_cr),  r = 1..R        (a core block D_c whose slices have rank R)
    f = W [z^_1; ...; z^_C] + b,    z^_c = u / |u|,  u = sign(z_c) sqrt|z_c|

p_m is the mean of H_m P_m over real tokens (the paper: question and region vectors). The normalisation of each chunk is
that of the authors' code; further modalities are further factors. Sizes of the paper: 1,600 numbers in 20 chunks, R =
15.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import TokenProjection, check_number, check_sizes, multiply, power_normalise


class ChunkMaps(nn.Module):
    """One linear map per chunk: [B, C, S] -> [B, C, out]."""

    def __init__(self, chunks: int, size: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(chunks, size, out))
        self.bias = nn.Parameter(torch.empty(chunks, 1, out))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(size**-0.5), size**-0.5)  # as nn.Linear does

    def forward(self, x_BCS: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x_BCS.transpose(0, 1), self.weight).transpose(0, 1)


class BLOCK(Fusion):
    """Pooled projections in chunks, a bilinear map of rank R for each chunk, normalised, joined by one linear map.

    Args:
        dims: modality -> width of its features.
        width: width of the projections (rounded up to whole chunks) and of the fused vector.
        dropout: on the fused vector.
        chunks: C, blocks of the core's diagonal (20 in the paper).
        rank: R, of each slice of a block (15 in the paper).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        chunks: int = 8,
        rank: int = 15,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width
        self.chunks, self.rank = check_number("chunks", chunks), check_number("rank", rank)
        self.size = -(-width // chunks)
        self.project = TokenProjection(dims, chunks * self.size, input_norm)
        self.merge = nn.ModuleList(ChunkMaps(chunks, self.size, rank * self.size) for _ in dims)
        self.out = nn.Linear(chunks * self.size, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        pooled = self.project.pooled(features)
        factors = [merge(p.view(len(p), self.chunks, self.size)) for merge, p in zip(self.merge, pooled, strict=True)]
        z_BCRS = multiply(factors).view(-1, self.chunks, self.rank, self.size)
        f_BK: Tensor = self.dropout(self.out(power_normalise(z_BCRS.sum(2)).flatten(1)))
        return f_BK
