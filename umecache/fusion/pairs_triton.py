"""The pair stage as a fused Triton kernel for NVIDIA GPUs. `pairs.py` is the door; nobody else calls this.

One program holds a few tokens of one sample and meets all others in blocks; a tile of p_ij lives in registers and is
dropped. The backward pass makes the tiles twice, once with rows held (gradients of A, C, w) and once with columns (B
and C again): twice the tanh, but no atomics, so results are the same bit for bit from run to run. Sums are float32.

Opt-in: `UMECACHE_PAIRS=triton`. It becomes the default on GPUs once its checks have passed on a real card; here they
run in Triton's interpreter (TRITON_INTERPRET=1, set before this module is imported), which is slow and exact.

Shapes: B batch, N tokens, D width; a program holds M of the tokens and meets T others at a time. X padded to a power
of two is written PX.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from umecache.fusion.pairs_tiled import NEVER, PairSpec

if TYPE_CHECKING or importlib.util.find_spec("triton") is not None:
    import triton
    import triton.language as tl

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SETS = {"upper": 0, "all": 1, "cross": 2}
TILE = 16384  # numbers of p in one tile: 64 registers of each of 256 threads
WARPS = 8


def unfit(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the kernel can't run on tensors of this device and dtype; None where it can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if dtype not in DTYPES:
        return f"the kernel sums in float32, the tensors are {dtype}"
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the kernel runs on NVIDIA GPUs, the tensors are on {device.type}"
    return None


def forward(
    a_BND: Tensor,
    b_BND: Tensor,
    c_BND: Tensor,
    mask_BN: Tensor,
    w_BD: Tensor | None,
    bias_B: Tensor | None,
    spec: PairSpec,
) -> tuple[Tensor, Tensor]:
    """f [B, D] and log(sum of exp(e)) [B] (mean: the log of the pair count), float32."""
    call = _Call(a_BND, b_BND, c_BND, mask_BN, w_BD, bias_B, spec)
    batch, _, width = a_BND.shape
    f_BMD = call.new(batch, call.programs, width)
    total_BM, top_BM = call.new(batch, call.programs), call.new(batch, call.programs)
    _forward[call.grid](*call.tensors, f_BMD, total_BM, top_BM, **call.options)
    top_B1 = top_BM.amax(1, keepdim=True)
    scale_BM = (top_BM - top_B1).exp()
    total_B = (total_BM * scale_BM).sum(1)
    empty_B = total_B == 0
    f_BD = (f_BMD * scale_BM[:, :, None]).sum(1) / total_B.masked_fill(empty_B, 1)[:, None]
    return f_BD, (total_B.log() + top_B1[:, 0]).masked_fill(empty_B, 0)


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
    """Gradients of a, b, c [B, N, D], w [B, D] and bias [B] (None for the mean), float32."""
    call = _Call(a_BND, b_BND, c_BND, mask_BN, w_BD, bias_B, spec)
    batch, n, width = a_BND.shape
    g_BD = grad_BD.float().contiguous()
    gf_B = (g_BD * f_BD).sum(1)
    da, db, dc, dc_too = (call.new(batch, n, width) for _ in range(4))
    dw_BMD, dbias_BM = call.new(batch, call.programs, width), call.new(batch, call.programs)
    log_total_B = log_total_B.float().contiguous()
    for rows, dx, d_c in ((True, da, dc), (False, db, dc_too)):
        _backward[call.grid](
            *call.tensors, g_BD, gf_B, log_total_B, dx, d_c, dw_BMD, dbias_BM, ROWS=rows, **call.options
        )
    if w_BD is None:
        return da, db, dc + dc_too, None, None
    return da, db, dc + dc_too, dw_BMD.sum(1), dbias_BM.sum(1)


class _Call:
    """What both kernels are called with."""

    def __init__(
        self, a: Tensor, b: Tensor, c: Tensor, mask: Tensor, w: Tensor | None, bias: Tensor | None, spec: PairSpec
    ) -> None:
        batch, n, width = a.shape
        padded = triton.next_power_of_2(width)
        pairs = max(2, TILE // padded)  # of a tile: held tokens times met ones
        held = 1 << ((pairs.bit_length() - 1) // 2)
        met = min(pairs // held, 64)
        self.device = a.device
        self.programs = triton.cdiv(n, held)
        self.grid = (self.programs, batch)
        aws = w is not None and bias is not None
        nothing = self.new(1)
        groups = torch.tensor(spec.groups or (0,), dtype=torch.int32, device=a.device)
        self.tensors = (
            *(x.detach().contiguous() for x in (a, b, c)),
            mask.to(torch.int8).contiguous(),
            groups,
            w.detach().float().contiguous() if w is not None and aws else nothing,
            bias.detach().float().contiguous() if bias is not None and aws else nothing,
        )
        self.options: dict[str, Any] = {
            "N": n,
            "D": width,
            "SET": SETS[spec.pairs],
            "AWS": aws,
            "LINEAR": aws and spec.aws_logit == "linear",
            "M": held,
            "T": met,
            "PD": padded,
            "LEAST": NEVER,
            "num_warps": WARPS,
        }

    def new(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float32, device=self.device)


if TYPE_CHECKING or importlib.util.find_spec("triton") is not None:

    @triton.jit
    def _tanh(x):
        # Exact to float32's last digits, which the hardware's own tanh is not; never overflows.
        t = tl.exp(-2.0 * tl.abs(x))
        y = (1.0 - t) / (1.0 + t)
        return tl.where(x < 0, -y, y)

    @triton.jit
    def _real(mask, sample, tokens, N):
        return tl.load(mask + sample * N + tokens, mask=tokens < N, other=0) != 0

    @triton.jit
    def _rows(x, sample, tokens, real, d, N, D):
        """[T, PD] float32 of some tokens; zero at padded ones, whatever stands there."""
        at = (sample * N + tokens)[:, None] * D + d[None, :]
        return tl.load(x + at, mask=real[:, None] & (d < D)[None, :], other=0.0).to(tl.float32)

    @triton.jit
    def _allowed(i, j, groups, N, SET: tl.constexpr):
        """Whether (i, j) is in the set; both of any shape that broadcasts."""
        if SET == 0:
            return i <= j
        if SET == 1:
            return (i == i) & (j == j)
        left = tl.load(groups + i, mask=i < N, other=0)
        right = tl.load(groups + j, mask=j < N, other=0)
        return (i < j) & (left != right)

    @triton.jit
    def _forward(
        a, b, c, mask, groups, w, bias, f, total_out, top_out,
        N, D, SET: tl.constexpr, AWS: tl.constexpr, LINEAR: tl.constexpr,
        M: tl.constexpr, T: tl.constexpr, PD: tl.constexpr, LEAST: tl.constexpr,
    ):  # fmt: skip
        """Sums over the pairs whose row is one of M tokens."""
        program, sample = tl.program_id(0), tl.program_id(1).to(tl.int64)
        i, d = program * M + tl.arange(0, M), tl.arange(0, PD)
        real_i = _real(mask, sample, i, N)
        a_MD = _rows(a, sample, i, real_i, d, N, D)
        c_MD = _rows(c, sample, i, real_i, d, N, D)
        f_D = tl.zeros([PD], tl.float32)
        total = 0.0
        top = LEAST if LINEAR else 0.0
        if AWS:
            w_D = tl.load(w + sample * D + d, mask=d < D, other=0.0)
            shift = tl.load(bias + sample)
        first = 0 if SET == 1 else (program * M) // T * T  # no pair lies below the diagonal
        for start in range(first, N, T):
            j = start + tl.arange(0, T)
            real_j = _real(mask, sample, j, N)
            b_TD = _rows(b, sample, j, real_j, d, N, D)
            c_TD = _rows(c, sample, j, real_j, d, N, D)
            p_MTD = _tanh(a_MD[:, None, :] + b_TD[None, :, :] + c_MD[:, None, :] * c_TD[None, :, :])
            ok_MT = real_i[:, None] & real_j[None, :] & _allowed(i[:, None], j[None, :], groups, N, SET)
            if AWS:
                e_MT = tl.sum(p_MTD * w_D[None, None, :], 2) + shift
                if LINEAR:
                    # A running maximum, as in streaming softmax; bounded logits need none.
                    highest = tl.maximum(top, tl.max(tl.max(tl.where(ok_MT, e_MT, LEAST), 1), 0))
                    shrink = tl.exp(top - highest)
                    f_D *= shrink
                    total *= shrink
                    top = highest
                else:
                    e_MT = _tanh(e_MT)
                g_MT = tl.where(ok_MT, tl.exp(e_MT - top), 0.0)
            else:
                g_MT = tl.where(ok_MT, 1.0, 0.0)
            f_D += tl.sum(tl.sum(g_MT[:, :, None] * p_MTD, 1), 0)
            total += tl.sum(tl.sum(g_MT, 1), 0)
        at = sample * tl.num_programs(0) + program
        tl.store(f + at * D + d, f_D, mask=d < D)
        tl.store(total_out + at, total)
        tl.store(top_out + at, top)

    @triton.jit
    def _backward(
        a, b, c, mask, groups, w, bias, grad, gf, log_total, dx, dc, dw, dbias,
        N, D, ROWS: tl.constexpr, SET: tl.constexpr, AWS: tl.constexpr, LINEAR: tl.constexpr,
        M: tl.constexpr, T: tl.constexpr, PD: tl.constexpr, LEAST: tl.constexpr,
    ):  # fmt: skip
        """Gradients of M tokens as rows (A and C, w, bias) or as columns (B and C)."""
        program, sample = tl.program_id(0), tl.program_id(1).to(tl.int64)
        mine, d = program * M + tl.arange(0, M), tl.arange(0, PD)
        real_m = _real(mask, sample, mine, N)
        x, y = (a, b) if ROWS else (b, a)
        x_MD = _rows(x, sample, mine, real_m, d, N, D)
        c_MD = _rows(c, sample, mine, real_m, d, N, D)
        g_D = tl.load(grad + sample * D + d, mask=d < D, other=0.0)
        offset = tl.load(log_total + sample)
        dx_MD = tl.zeros([M, PD], tl.float32)
        dc_MD = tl.zeros([M, PD], tl.float32)
        dw_D = tl.zeros([PD], tl.float32)
        db = 0.0
        if AWS:
            w_D = tl.load(w + sample * D + d, mask=d < D, other=0.0)
            shift = tl.load(bias + sample)
            mean = tl.load(gf + sample)
        first, last = 0, N
        if SET != 1:
            if ROWS:
                first = (program * M) // T * T
            else:
                last = tl.minimum(N, (program + 1) * M)
        for start in range(first, last, T):
            other = start + tl.arange(0, T)
            real_o = _real(mask, sample, other, N)
            y_TD = _rows(y, sample, other, real_o, d, N, D)
            c_TD = _rows(c, sample, other, real_o, d, N, D)
            p_MTD = _tanh(x_MD[:, None, :] + y_TD[None, :, :] + c_MD[:, None, :] * c_TD[None, :, :])
            ok_MT = real_m[:, None] & real_o[None, :]
            if ROWS:
                ok_MT = ok_MT & _allowed(mine[:, None], other[None, :], groups, N, SET)
            else:
                ok_MT = ok_MT & _allowed(other[None, :], mine[:, None], groups, N, SET)
            if AWS:
                e_MT = tl.sum(p_MTD * w_D[None, None, :], 2) + shift
                if not LINEAR:
                    e_MT = _tanh(e_MT)
                weight_MT = tl.where(ok_MT, tl.exp(e_MT - offset), 0.0)
                dl_MT = weight_MT * (tl.sum(p_MTD * g_D[None, None, :], 2) - mean)
                if not LINEAR:
                    dl_MT = dl_MT * (1.0 - e_MT * e_MT)
                ds_MTD = weight_MT[:, :, None] * g_D[None, None, :] + dl_MT[:, :, None] * w_D[None, None, :]
                if ROWS:
                    dw_D += tl.sum(tl.sum(dl_MT[:, :, None] * p_MTD, 1), 0)
                    db += tl.sum(tl.sum(dl_MT, 1), 0)
            else:
                ds_MTD = tl.where(ok_MT, tl.exp(-offset), 0.0)[:, :, None] * g_D[None, None, :]
            ds_MTD = ds_MTD * (1.0 - p_MTD * p_MTD)
            dx_MD += tl.sum(ds_MTD, 1)
            dc_MD += tl.sum(ds_MTD * c_TD[None, :, :], 1)
        at = (sample * N + mine)[:, None] * D + d[None, :]
        inside = (mine < N)[:, None] & (d < D)[None, :]
        tl.store(dx + at, dx_MD, mask=inside)
        tl.store(dc + at, dc_MD, mask=inside)
        if AWS and ROWS:
            at = sample * tl.num_programs(0) + program
            tl.store(dw + at * D + d, dw_D, mask=d < D)
            tl.store(dbias + at, db)
