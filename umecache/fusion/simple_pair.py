"""Simple pair: every pair of tokens with a dense map of its product; what EVC makes cheap, for comparison.

K. Lee, Research on Efficient Modality Fusion for Enhanced Uni-modal Ensemble, thesis (the form it compares EVC with).

    Z = attention(concat_m(H_m P_m))
    p_ij = tanh(W_1 z_i + W_2 z_j + W_3 (z_i - z_j) + W_4 (z_i * z_j))    f = mean over pairs(p_ij)

EVC has (W_4 z_i) * (W_4 z_j) in place of W_4 (z_i * z_j). That one difference makes a pair cost D^2 here and D there:
N^2 D^2 multiply-adds per question. Pairs are made in tiles, forward and again backward, so memory stays O(N D).

Shapes: B batch (b: a block of it), N tokens, I and J the rows and columns of one tile, D width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from umecache.fusion import pairs_tiled
from umecache.fusion.base import Features
from umecache.fusion.evc import EVC
from umecache.fusion.layers import join
from umecache.fusion.pairs import pair_spec
from umecache.fusion.pairs_tiled import PairSpec, Tile


class SimplePair(EVC):
    """Attention, then the mean over pairs, each with a dense map of its product.

    Args:
        dims: modality -> width of its features.
        width: D, the width of tokens, pairs and the fused vector.
        dropout: on the fused vector, and inside the residual if there is one.
        pairs: "upper" (i <= j), "all" (ordered pairs), "cross" (i < j, of different modalities).
        activation: "tanh", or "tanh2" = tanh(x ln 2), the formula as printed in the source.
        heads: attention heads (1: the equation as printed).
        residual: LayerNorm(X + Z) in place of Z (off: the source's drawing).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none", the drawing).
    """

    def forward(self, features: Features) -> Tensor:
        x_BND, mask_BN, counts = join(self.project(features))
        z_BND = self.attend(x_BND, mask_BN)
        w1, w2, w3, w4 = self.combine.weight * (math.log(2) if self.activation == "tanh2" else 1)
        a_BND, b_BND = F.linear(z_BND, torch.cat((w1 + w3, w2 - w3))).chunk(2, dim=-1)
        groups = [number for number, count in enumerate(counts) for _ in range(count)]
        spec = pair_spec(self.pairs, groups_N=groups, n=z_BND.shape[1])
        f_BD: Tensor = self.dropout(_DensePairs.apply(z_BND, a_BND, b_BND, w4, mask_BN, spec))
        return f_BD


def _parts(z_BND: Tensor, mask_BN: Tensor, spec: PairSpec) -> list[tuple[slice, Tile]]:
    """Every tile of every block of samples."""
    samples, side = pairs_tiled.block_sizes(z_BND)
    plan = pairs_tiled.tiles(spec, z_BND.shape[1], side, z_BND.device)
    return [(part, tile) for part in pairs_tiled.batches(mask_BN, samples) for tile in plan]


def _tile_sum(
    zi_bID: Tensor, zj_bJD: Tensor, ai_bID: Tensor, bj_bJD: Tensor, w4_DD: Tensor, real_bIJ: Tensor
) -> Tensor:
    """The sum of a tile's p_ij, [b, D]."""
    s_bIJD = F.linear(zi_bID[:, :, None] * zj_bJD[:, None], w4_DD) + ai_bID[:, :, None] + bj_bJD[:, None]
    real_b1L = real_bIJ.flatten(1)[:, None].to(s_bIJD.dtype)
    return (real_b1L @ s_bIJD.tanh().flatten(1, 2)).squeeze(1)


class _DensePairs(torch.autograd.Function):
    """The mean of p_ij from z, A = W_1 z + W_3 z, B = W_2 z - W_3 z and W_4; tiles are made again going back."""

    @staticmethod
    def forward(
        ctx: Any, z_BND: Tensor, a_BND: Tensor, b_BND: Tensor, w4_DD: Tensor, mask_BN: Tensor, spec: PairSpec
    ) -> Tensor:
        dtype = pairs_tiled.compute_dtype(z_BND)
        f_BD = z_BND.new_zeros((z_BND.shape[0], z_BND.shape[2]), dtype=dtype)
        with torch.autocast(z_BND.device.type, enabled=False):
            for part, tile in _parts(z_BND, mask_BN, spec):
                leaves, real_bIJ = _tile(part, tile, z_BND, a_BND, b_BND, mask_BN, dtype)
                f_BD[part] += _tile_sum(*leaves, w4_DD.to(dtype), real_bIJ)
        ctx.save_for_backward(z_BND, a_BND, b_BND, w4_DD, mask_BN)
        ctx.spec = spec
        return (f_BD / _count(mask_BN, spec, dtype)).to(a_BND.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_BD: Tensor) -> tuple[Tensor | None, ...]:
        z_BND, a_BND, b_BND, w4_DD, mask_BN = ctx.saved_tensors
        dtype = pairs_tiled.compute_dtype(z_BND)
        share_BD = grad_BD.to(dtype) / _count(mask_BN, ctx.spec, dtype)
        w4 = w4_DD.to(dtype).detach().requires_grad_()
        dz, da, db, dw = (torch.zeros_like(x, dtype=dtype) for x in (z_BND, a_BND, b_BND, w4_DD))
        with torch.autocast(z_BND.device.type, enabled=False):
            for part, tile in _parts(z_BND, mask_BN, ctx.spec):
                leaves, real_bIJ = _tile(part, tile, z_BND, a_BND, b_BND, mask_BN, dtype)
                for leaf in leaves:
                    leaf.requires_grad_()
                with torch.enable_grad():
                    total_bD = _tile_sum(*leaves, w4, real_bIJ)
                dzi, dzj, dai, dbj, dw4 = torch.autograd.grad(total_bD, (*leaves, w4), share_BD[part])
                dz[part, tile.rows] += dzi
                dz[part, tile.cols] += dzj
                da[part, tile.rows] += dai
                db[part, tile.cols] += dbj
                dw += dw4
        return dz.to(z_BND.dtype), da.to(a_BND.dtype), db.to(b_BND.dtype), dw.to(w4_DD.dtype), None, None


def _tile(
    part: slice, tile: Tile, z_BND: Tensor, a_BND: Tensor, b_BND: Tensor, mask_BN: Tensor, dtype: torch.dtype
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """z_i, z_j, A_i, B_j of a tile, detached, and which of its pairs are in the set [b, I, J]."""
    read = (
        (z_BND, tile.rows),
        (z_BND, tile.cols),
        (a_BND, tile.rows),
        (b_BND, tile.cols),
    )
    zi, zj, ai, bj = (x_BND.detach()[part, tokens].to(dtype) for x_BND, tokens in read)
    real_bIJ = mask_BN[part, tile.rows, None] & mask_BN[part, None, tile.cols]
    return (zi, zj, ai, bj), real_bIJ if tile.allowed is None else real_bIJ & tile.allowed


def _count(mask_BN: Tensor, spec: PairSpec, dtype: torch.dtype) -> Tensor:
    """The number of pairs of each sample, at least 1, [B, 1]."""
    return pairs_tiled.count_pairs(mask_BN, spec).clamp(min=1).to(dtype)[:, None]
