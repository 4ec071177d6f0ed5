"""The pair stage: p_ij = tanh(A_i + B_j + C_i * C_j) over a set of pairs, pooled to one vector in O(N D) memory.

    f_BD = pair_pool(a_BND, b_BND, c_BND, mask_BN)                                    # EVC: the mean of p_ij
    f_BD = pair_pool(a_BND, b_BND, c_BND, mask_BN, w_D=w_D, bias=bias)                # UME: f = sum a_ij p_ij

AWS weights are a = softmax over pairs(e), e_ij = tanh(w . p_ij + b) or, with `aws_logit="linear"`, w . p_ij + b.

Three implementations, one result: "cpu", a vectorised C kernel that is compiled on first use (`pairs_cpu.py`); "tiled",
plain PyTorch for any device and dtype (`pairs_tiled.py`); and "triton", a fused kernel for NVIDIA GPUs, opt-in until it
has passed its checks on a real card (`pairs_triton.py`). `implementation` tells which one is taken, and why. `impl=` or
the environment variable UMECACHE_PAIRS asks for one by name.

Shapes: B batch, N tokens of all modalities, D width.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from umecache.errors import UsageError
from umecache.fusion import pairs_cpu, pairs_tiled
from umecache.fusion.layers import check_choice
from umecache.fusion.pairs_tiled import PairSpec

PAIRS = ("upper", "all", "cross")
ACTIVATIONS = ("tanh", "tanh2")
AWS_LOGITS = ("tanh", "linear")
IMPLS = ("auto", "cpu", "tiled", "triton")


def pair_spec(
    pairs: str, aws_logit: str = "tanh", groups_N: Tensor | Sequence[int] | None = None, n: int | None = None
) -> PairSpec:
    """A checked `PairSpec`. `groups_N`: modality of each token, by number."""
    check_choice("pairs", pairs, PAIRS)
    check_choice("aws_logit", aws_logit, AWS_LOGITS)
    if pairs != "cross":
        return PairSpec(pairs, aws_logit)
    if groups_N is None or (n is not None and len(groups_N) != n):
        raise ValueError(f"pairs='cross' needs groups_N, the modality of each of the {n} tokens.")
    return PairSpec(pairs, aws_logit, tuple(int(group) for group in groups_N))


def fold_activation(a_BND: Tensor, b_BND: Tensor, c_BND: Tensor, activation: str) -> tuple[Tensor, Tensor, Tensor]:
    """2 / (1 + 2^(-2x)) - 1 = tanh(x ln 2): `tanh2` is a scale on A and B, and its root on both factors C."""
    check_choice("activation", activation, ACTIVATIONS)
    if activation == "tanh":
        return a_BND, b_BND, c_BND
    return a_BND * math.log(2), b_BND * math.log(2), c_BND * math.sqrt(math.log(2))


def implementation(device: torch.device, dtype: torch.dtype, impl: str | None = None) -> tuple[str, str]:
    """(name, reason) of the implementation that `pair_pool` takes for tensors of this device and dtype.

    Raises:
        UsageError: `impl`, or UMECACHE_PAIRS, is no implementation, or names one that can't run here.
    """
    asked = impl or os.environ.get("UMECACHE_PAIRS") or "auto"
    if asked not in IMPLS:
        raise UsageError(
            f"UMECACHE_PAIRS (or impl) is {asked!r}; it can be {', '.join(IMPLS)}.", next="unset UMECACHE_PAIRS"
        )
    if asked == "tiled":
        return "tiled", "asked for"
    if asked == "triton":
        if why := _triton().unfit(device, dtype):
            raise UsageError("The Triton kernel can't run here.", why=f"{why}.", next="UMECACHE_PAIRS=auto")
        return "triton", "asked for"
    if device.type != "cpu":
        unfit = f"the kernel runs on the CPU, the tensors are on {device.type}"
    elif dtype not in pairs_cpu.DTYPES:
        unfit = f"the kernel sums in float32, the tensors are {dtype}"
    else:
        found = pairs_cpu.status()
        if found.ready:
            return "cpu", found.reason
        unfit = found.reason
    if asked == "cpu":
        raise UsageError("The pair kernel can't run here.", why=unfit + ".", next="UMECACHE_PAIRS=tiled")
    return "tiled", unfit


def _triton() -> Any:
    """Imported when asked for: Triton takes a second to load, and few machines have a use for it."""
    return importlib.import_module("umecache.fusion.pairs_triton")


class _PairPool(torch.autograd.Function):
    """Keeps its inputs, f and one number per sample for the backward pass; p_ij are made again there."""

    @staticmethod
    def forward(
        ctx: Any,
        a_BND: Tensor,
        b_BND: Tensor,
        c_BND: Tensor,
        mask_BN: Tensor,
        w_BD: Tensor | None,
        bias_B: Tensor | None,
        spec: PairSpec,
        module: Any,
    ) -> Tensor:
        # Inside autocast the products of a tile would run in half precision: tiles are float32 by design.
        with torch.autocast(a_BND.device.type, enabled=False):
            f_BD, log_total_B = module.forward(a_BND, b_BND, c_BND, mask_BN, w_BD, bias_B, spec)
        ctx.save_for_backward(a_BND, b_BND, c_BND, mask_BN, w_BD, bias_B, f_BD, log_total_B)
        ctx.spec, ctx.module = spec, module
        out_BD: Tensor = f_BD.to(a_BND.dtype)
        return out_BD

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_BD: Tensor) -> tuple[Tensor | None, ...]:
        a_BND, b_BND, c_BND, mask_BN, w_BD, bias_B, f_BD, log_total_B = ctx.saved_tensors
        with torch.autocast(a_BND.device.type, enabled=False):
            grads = ctx.module.backward(
                grad_BD, a_BND, b_BND, c_BND, mask_BN, w_BD, bias_B, f_BD, log_total_B, ctx.spec
            )
        if ctx.spec.aws_logit == "linear" and bias_B is not None:
            grads = (*grads[:4], torch.zeros_like(bias_B))  # softmax drops it; what was summed is rounding
        wanted = (a_BND, b_BND, c_BND, w_BD, bias_B)
        da, db, dc, dw, dbias = (
            None if g is None or x is None else g.to(x.dtype) for g, x in zip(grads, wanted, strict=True)
        )
        return da, db, dc, None, dw, dbias, None, None


def pair_pool(
    a_BND: Tensor,
    b_BND: Tensor,
    c_BND: Tensor,
    mask_BN: Tensor,
    *,
    w_D: Tensor | None = None,
    bias: Tensor | None = None,
    pairs: str = "upper",
    groups_N: Tensor | Sequence[int] | None = None,
    activation: str = "tanh",
    aws_logit: str = "tanh",
    impl: str | None = None,
) -> Tensor:
    """Pool all pairs of each sample to [B, D]; once differentiable in a, b, c, w and bias.

    Args:
        a_BND, b_BND, c_BND: A = U1 + U3, B = U2 - U3, C = U4 (float of any width; sums are float32, or float64 for
            float64).
        mask_BN: True at real tokens. What stands elsewhere doesn't matter; a sample without any pair gives zero.
        w_D: AWS weights [D], or [B, D] for one set per sample. None: the mean of p_ij.
        bias: AWS bias, one number or [B]. None: 0.
        pairs: "upper" (i <= j), "all" (ordered), "cross" (i < j, of different modalities).
        groups_N: modality of each token; "cross" needs it.
        activation: "tanh", or "tanh2" = tanh(x ln 2).
        aws_logit: "tanh" bounds the logits, so that two weights differ by e^2 at most; "linear" doesn't.
        impl: "cpu", "tiled", "triton" or None: whichever is faster here.

    Raises:
        UsageError: an option is none of its values.
    """
    spec = pair_spec(pairs, aws_logit, groups_N, a_BND.shape[1])
    a_BND, b_BND, c_BND = fold_activation(a_BND, b_BND, c_BND, activation)
    name, _ = implementation(a_BND.device, a_BND.dtype, impl)
    module = {"cpu": pairs_cpu, "tiled": pairs_tiled}.get(name) or _triton()
    w_BD = bias_B = None
    if w_D is not None:
        batch, _, width = a_BND.shape
        w_BD = w_D.expand(batch, width)
        bias_B = w_D.new_zeros(batch) if bias is None else bias.reshape(-1).expand(batch)
    f_BD: Tensor = _PairPool.apply(a_BND, b_BND, c_BND, mask_BN, w_BD, bias_B, spec, module)
    return f_BD
