"""The pair stage in tiles, plain PyTorch: any device, any dtype. `pairs.py` is the door; nobody else calls this.

A tile is (block of samples) x (block of rows i) x (block of columns j). Its p_ij are made, used and dropped; the
backward pass makes them again. So memory is O(N D) where the equations, read literally, ask for O(N^2 D).

Shapes: B batch (b: its block), N tokens, I and J the rows and columns of one tile, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Numbers in one tile. CPU: a tile and its two companions stay in the cache. Other devices: large enough to fill the
# device, and never more than the features themselves hold (see `block_sizes`).
CPU_TILE = 1 << 17
DEVICE_TILE = 1 << 24
NEVER = -1e30  # below every logit, and finite: (-inf) - (-inf) would be NaN


@dataclass(frozen=True, slots=True)
class PairSpec:
    """Which pairs, and how their logits are bounded. `groups`: modality of each token, needed by "cross"."""

    pairs: str  # upper | all | cross
    aws_logit: str  # tanh | linear; without meaning for the mean
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows and columns of one tile; `allowed` [I, J] is None where every pair of it is in the set."""

    rows: slice
    cols: slice
    allowed: Tensor | None


def tiles(spec: PairSpec, n: int, side: int, device: torch.device) -> list[Tile]:
    """The tiles that hold at least one pair of the set."""
    made = []
    index_N = torch.arange(n, device=device)
    groups_N = torch.tensor(spec.groups, device=device) if spec.pairs == "cross" else None
    blocks = [slice(start, min(start + side, n)) for start in range(0, n, side)]
    for rows in blocks:
        for cols in blocks:
            if spec.pairs != "all" and cols.stop <= rows.start:
                continue  # all of it lies below the diagonal
            allowed = None
            if spec.pairs != "all" and cols.start < rows.stop:
                allowed = index_N[rows, None] <= index_N[None, cols]
            if groups_N is not None:
                # What is skipped is decided on the host: asking the device would wait for it.
                left, right = set(spec.groups[rows]), set(spec.groups[cols])
                if left == right and len(left) == 1:
                    continue
                if left & right:
                    differ = groups_N[rows, None] != groups_N[None, cols]
                    allowed = differ if allowed is None else allowed & differ
            made.append(Tile(rows, cols, allowed))
    return made


def count_pairs(mask_BN: Tensor, spec: PairSpec) -> Tensor:
    """Number of pairs of each sample, int64 [B], in closed form."""
    n_B = mask_BN.sum(1)
    if spec.pairs == "all":
        return n_B * n_B
    if spec.pairs == "upper":
        return n_B * (n_B + 1) // 2
    groups_N = torch.tensor(spec.groups, device=mask_BN.device)
    same_B = torch.zeros_like(n_B)
    for group in sorted(set(spec.groups)):
        same_B += (mask_BN & (groups_N == group)).sum(1) ** 2
    return (n_B * n_B - same_B) // 2


def block_sizes(a_BND: Tensor) -> tuple[int, int]:
    """(samples, side) of a tile, so that samples * side^2 * D stays within the budget."""
    batch, n, width = a_BND.shape
    budget = CPU_TILE if a_BND.device.type == "cpu" else min(DEVICE_TILE, max(a_BND.numel(), CPU_TILE))
    side = max(1, min(n, math.isqrt(max(1, budget // width))))
    return max(1, min(batch, budget // (side * side * width))), side


def batches(mask_BN: Tensor, samples: int) -> Iterator[slice]:
    """The blocks of samples."""
    for start in range(0, mask_BN.shape[0], samples):
        yield slice(start, min(start + samples, mask_BN.shape[0]))


class Block:
    """One block of samples, seen tile by tile in the compute dtype."""

    def __init__(self, a: Tensor, b: Tensor, c: Tensor, mask_BN: Tensor, part: slice, dtype: torch.dtype) -> None:
        self.a, self.b, self.c, self.mask_bN, self.dtype = a[part], b[part], c[part], mask_BN[part], dtype

    def read(self, x_bND: Tensor, tokens: slice) -> Tensor:
        """[b, I, D]; padded tokens zero, so that garbage there can't spread as NaN."""
        return x_bND[:, tokens].to(self.dtype).masked_fill(~self.mask_bN[:, tokens, None], 0)

    def pairs(self, tile: Tile) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """p [b, I, J, D], its validity [b, I, J], and c of rows and columns."""
        ci_bID, cj_bJD = self.read(self.c, tile.rows), self.read(self.c, tile.cols)
        p_bIJD = torch.addcmul(self.read(self.b, tile.cols)[:, None], ci_bID[:, :, None], cj_bJD[:, None])
        p_bIJD.add_(self.read(self.a, tile.rows)[:, :, None]).tanh_()
        real_bIJ = self.mask_bN[:, tile.rows, None] & self.mask_bN[:, None, tile.cols]
        if tile.allowed is not None:
            real_bIJ = real_bIJ & tile.allowed
        return p_bIJD, real_bIJ, ci_bID, cj_bJD

    def idle(self, tile: Tile) -> bool:
        """No real token among the rows or the columns. Asked on the CPU only: elsewhere the answer costs a wait."""
        if self.mask_bN.device.type != "cpu":
            return False
        return not (bool(self.mask_bN[:, tile.rows].any()) and bool(self.mask_bN[:, tile.cols].any()))


def logits(p_bLD: Tensor, w_bD: Tensor, bias_b: Tensor, aws_logit: str) -> Tensor:
    """e [b, L] of the pairs of a tile, laid in a row."""
    e_bL = (p_bLD @ w_bD[:, :, None]).squeeze(-1) + bias_b[:, None]
    return e_bL.tanh_() if aws_logit == "tanh" else e_bL


def forward(
    a_BND: Tensor,
    b_BND: Tensor,
    c_BND: Tensor,
    mask_BN: Tensor,
    w_BD: Tensor | None,
    bias_B: Tensor | None,
    spec: PairSpec,
) -> tuple[Tensor, Tensor]:
    """f [B, D] and log(sum of exp(e)) [B] (mean: the log of the pair count), both in the compute dtype."""
    dtype = compute_dtype(a_BND)
    samples, side = block_sizes(a_BND)
    plan = tiles(spec, a_BND.shape[1], side, a_BND.device)
    f_BD = a_BND.new_zeros((a_BND.shape[0], a_BND.shape[2]), dtype=dtype)
    if w_BD is None or bias_B is None:
        count_B = count_pairs(mask_BN, spec).to(dtype).clamp(min=1)
        for part in batches(mask_BN, samples):
            block = Block(a_BND, b_BND, c_BND, mask_BN, part, dtype)
            for tile in plan:
                if not block.idle(tile):
                    p_bIJD, real_bIJ, _, _ = block.pairs(tile)
                    p_bLD, real_bL = p_bIJD.flatten(1, 2), real_bIJ.flatten(1).to(dtype)
                    f_BD[part] += (real_bL[:, None] @ p_bLD).squeeze(1)
        return f_BD / count_B[:, None], count_B.log()

    total_B = f_BD.new_zeros(f_BD.shape[0])
    # Bounded logits need no running maximum (exp(e) lies in [1/e, e]); linear ones do, as in streaming softmax.
    top_B = torch.full_like(total_B, NEVER if spec.aws_logit == "linear" else 0.0)
    for part in batches(mask_BN, samples):
        block = Block(a_BND, b_BND, c_BND, mask_BN, part, dtype)
        w_bD, bias_b = w_BD[part].to(dtype), bias_B[part].to(dtype)
        for tile in plan:
            if block.idle(tile):
                continue
            p_bIJD, real_bIJ, _, _ = block.pairs(tile)
            p_bLD = p_bIJD.flatten(1, 2)
            e_bL = logits(p_bLD, w_bD, bias_b, spec.aws_logit).masked_fill_(~real_bIJ.flatten(1), -math.inf)
            if spec.aws_logit == "linear":
                top_b = torch.maximum(top_B[part], e_bL.amax(1))
                shrink_b = (top_B[part] - top_b).exp_()
                f_BD[part] *= shrink_b[:, None]
                total_B[part] *= shrink_b
                top_B[part] = top_b
            g_bL = (e_bL - top_B[part][:, None]).exp_()
            f_BD[part] += (g_bL[:, None] @ p_bLD).squeeze(1)
            total_B[part] += g_bL.sum(1)
    empty_B = count_pairs(mask_BN, spec) == 0
    total_B = total_B.masked_fill(empty_B, 1)
    return f_BD / total_B[:, None], (total_B.log() + top_B).masked_fill(empty_B, 0)


def backward(
    grad_BD: Tensor,
    a_BND: Tensor,
    b_BND: Tensor,
    c_BND: Tensor,
    mask_BN: Tensor,
    w_BD: Tensor | None,
    bias_B: Tensor | None,
    f_BD: Tensor,
    log_total_B: Tensor,
    spec: PairSpec,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of a, b, c [B, N, D], w [B, D] and bias [B] (None for the mean), in the compute dtype.

    With s = A_i + B_j + C_i C_j, q = 1 - p^2 and G the gradient of f:
    mean: ds = q * G / count.  AWS: dl = a (G.p - G.f), times (1 - e^2) for tanh logits; ds = q * (a G + dl w).
    """
    dtype = f_BD.dtype
    samples, side = block_sizes(a_BND)
    plan = tiles(spec, a_BND.shape[1], side, a_BND.device)
    da_BND, db_BND, dc_BND = (torch.zeros_like(x, dtype=dtype) for x in (a_BND, b_BND, c_BND))
    dw_BD, dbias_B = torch.zeros_like(f_BD), f_BD.new_zeros(f_BD.shape[0])
    aws = w_BD is not None and bias_B is not None
    for part in batches(mask_BN, samples):
        block = Block(a_BND, b_BND, c_BND, mask_BN, part, dtype)
        g_bD = grad_BD[part].to(dtype)
        if aws:
            assert w_BD is not None and bias_B is not None
            w_bD, bias_b = w_BD[part].to(dtype), bias_B[part].to(dtype)
            two_b2D = torch.stack((g_bD, w_bD), 1)
            gf_b1 = (g_bD * f_BD[part]).sum(1, keepdim=True)
        for tile in plan:
            if block.idle(tile):
                continue
            p_bIJD, real_bIJ, ci_bID, cj_bJD = block.pairs(tile)
            if not aws:
                q_bIJD = p_bIJD.square_().neg_().add_(1).mul_(real_bIJ[..., None])
                spare = torch.empty_like(q_bIJD)
            else:
                p_bLD = p_bIJD.flatten(1, 2)
                gp_bL, e_bL = (p_bLD @ two_b2D.mT).unbind(-1)
                e_bL = e_bL + bias_b[:, None]
                if spec.aws_logit == "tanh":
                    e_bL = e_bL.tanh_()
                a_bL = (e_bL - log_total_B[part].to(dtype)[:, None]).exp_().masked_fill_(~real_bIJ.flatten(1), 0)
                dl_bL = a_bL * (gp_bL - gf_b1)
                if spec.aws_logit == "tanh":
                    dl_bL = dl_bL * (1 - e_bL.square())
                dw_BD[part] += (dl_bL[:, None] @ p_bLD).squeeze(1)
                dbias_B[part] += dl_bL.sum(1)
                spare = (torch.stack((a_bL, dl_bL), -1) @ two_b2D).view_as(p_bIJD)
                q_bIJD = p_bIJD.square_().neg_().add_(1).mul_(spare)
            da_BND[part, tile.rows] += q_bIJD.sum(2)
            db_BND[part, tile.cols] += q_bIJD.sum(1)
            dc_BND[part, tile.rows] += torch.mul(q_bIJD, cj_bJD[:, None], out=spare).sum(2)
            dc_BND[part, tile.cols] += torch.mul(q_bIJD, ci_bID[:, :, None], out=spare).sum(1)
        if not aws:
            # The same factor for every pair: once per token is enough.
            factor_b1D = (g_bD * torch.exp(-log_total_B[part].to(dtype))[:, None])[:, None]
            for d_BND in (da_BND, db_BND, dc_BND):
                d_BND[part] *= factor_b1D
    return da_BND, db_BND, dc_BND, dw_BD if aws else None, dbias_B if aws else None


def compute_dtype(x: Tensor) -> torch.dtype:
    """Sums are float32 for anything narrower, float64 for float64."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
