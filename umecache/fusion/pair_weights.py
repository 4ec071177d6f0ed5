"""What the AWS weights of a batch look like, without keeping them: per token, their entropy, their effective share.

    weights = pair_weights_summary(a_BND, b_BND, c_BND, mask_BN, w_D=w_D, bias=bias)
    weights.token_BN[0]            # how much each token of the first sample counted; sums to 1

One pass over the tiles of `pairs_tiled.py`, O(N D) memory, no gradient.

Shapes: B batch (b: a block of it), N tokens, I and J rows and columns of one tile, L the pairs of a tile in a row,
D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from umecache.fusion import pairs_tiled
from umecache.fusion.pairs import fold_activation, pair_spec


@dataclass(frozen=True, slots=True)
class PairWeights:
    """AWS weights of each sample; all zero for a sample without any pair.

    Attributes:
        token: [B, N] weight of each token: half of each of its pairs' weights (a pair (i, i) counts whole), so that a
            sample's tokens sum to 1.
        entropy: [B] -sum a log a, in nats.
        relative_entropy: [B] the same over its largest value, the log of the pair count (1: uniform, or one pair).
        effective_share: [B] (sum a)^2 / sum a^2 over the pair count (1: uniform).
        pairs: [B] number of pairs, int64.
    """

    token: Tensor
    entropy: Tensor
    relative_entropy: Tensor
    effective_share: Tensor
    pairs: Tensor


@torch.no_grad()
def pair_weights_summary(
    a_BND: Tensor,
    b_BND: Tensor,
    c_BND: Tensor,
    mask_BN: Tensor,
    *,
    w_D: Tensor,
    bias: Tensor | None = None,
    pairs: str = "upper",
    groups_N: Tensor | Sequence[int] | None = None,
    activation: str = "tanh",
    aws_logit: str = "tanh",
) -> PairWeights:
    """Summarise the AWS weights; arguments as in `pairs.pair_pool`."""
    batch, n, width = a_BND.shape
    spec = pair_spec(pairs, aws_logit, groups_N, n)
    a_BND, b_BND, c_BND = fold_activation(a_BND, b_BND, c_BND, activation)
    dtype = pairs_tiled.compute_dtype(a_BND)
    w_BD = w_D.to(dtype).expand(batch, width)
    bias_B = (w_D.new_zeros(1) if bias is None else bias).to(dtype).reshape(-1).expand(batch)
    samples, side = pairs_tiled.block_sizes(a_BND)
    plan = pairs_tiled.tiles(spec, n, side, a_BND.device)

    token_BN = a_BND.new_zeros((batch, n), dtype=dtype)
    # With g = exp(e - top): sums of g, g^2 and g (e - top), scaled down together whenever a higher logit comes.
    sums_B3 = a_BND.new_zeros((batch, 3), dtype=dtype)
    top_B = torch.full((batch,), pairs_tiled.NEVER, dtype=dtype, device=a_BND.device)
    with torch.autocast(a_BND.device.type, enabled=False):
        for part in pairs_tiled.batches(mask_BN, samples):
            block = pairs_tiled.Block(a_BND, b_BND, c_BND, mask_BN, part, dtype)
            for tile in plan:
                p_bIJD, real_bIJ, _, _ = block.pairs(tile)
                e_bL = pairs_tiled.logits(p_bIJD.flatten(1, 2), w_BD[part], bias_B[part], aws_logit)
                e_bIJ = e_bL.view_as(real_bIJ).masked_fill(~real_bIJ, -math.inf)
                top_b = torch.maximum(top_B[part], e_bIJ.amax((1, 2)))
                fall_b = top_B[part] - top_b
                shrink_b = fall_b.exp()
                total_b, square_b, spread_b = sums_B3[part].unbind(1)
                g_bIJ = (e_bIJ - top_b[:, None, None]).exp()
                lower_bIJ = (e_bIJ - top_b[:, None, None]).masked_fill(~real_bIJ, 0)
                # total is 0 while fall is -1e30: keep their product from leaving the range.
                carried_b = torch.where(total_b > 0, fall_b * total_b, 0)
                sums_B3[part] = torch.stack(
                    (
                        total_b * shrink_b + g_bIJ.sum((1, 2)),
                        square_b * shrink_b.square() + g_bIJ.square().sum((1, 2)),
                        (spread_b + carried_b) * shrink_b + (g_bIJ * lower_bIJ).sum((1, 2)),
                    ),
                    1,
                )
                token_BN[part] *= shrink_b[:, None]
                token_BN[part, tile.rows] += g_bIJ.sum(2) / 2
                token_BN[part, tile.cols] += g_bIJ.sum(1) / 2
                top_B[part] = top_b
    count_B = pairs_tiled.count_pairs(mask_BN, spec)
    total_B, square_B, spread_B = sums_B3.masked_fill((count_B == 0)[:, None], 1).unbind(1)
    some_B = count_B > 0
    entropy_B = (total_B.log() - spread_B / total_B).clamp(min=0) * some_B
    largest_B = count_B.clamp(min=2).to(dtype).log()
    return PairWeights(
        token=token_BN / total_B[:, None],
        entropy=entropy_B,
        relative_entropy=torch.where(count_B == 1, 1.0, entropy_B / largest_B),
        effective_share=total_B.square() / square_B / count_B.clamp(min=1) * some_B,
        pairs=count_B,
    )
