"""The method written down from its equations, one pair at a time, for tests: slow, and nothing shared with the package.

Shapes: N tokens, D width, P pairs of one sample.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def pair_list(groups: list[int], real: list[bool], pairs: str) -> list[tuple[int, int]]:
    """The set of pairs of one sample."""
    found = []
    for i in range(len(groups)):
        for j in range(len(groups)):
            if not (real[i] and real[j]):
                continue
            if (
                pairs == "all"
                or (pairs == "upper" and i <= j)
                or (pairs == "cross" and i < j and groups[i] != groups[j])
            ):
                found.append((i, j))
    return found


def activate(x: Tensor, activation: str) -> Tensor:
    """tanh, or the formula as the source prints it."""
    return torch.tanh(x) if activation == "tanh" else 2 / (1 + 2 ** (-2 * x)) - 1


def pair_vectors(
    u1: Tensor, u2: Tensor, u3: Tensor, u4: Tensor, chosen: list[tuple[int, int]], activation: str
) -> Tensor:
    """p_ij [P, D] of one sample, u_k [N, D]."""
    rows = [activate(u1[i] + u2[j] + (u3[i] - u3[j]) + u4[i] * u4[j], activation) for i, j in chosen]
    return torch.stack(rows) if rows else u1.new_zeros((0, u1.shape[1]))


def weights(p: Tensor, w: Tensor, bias: Tensor | float, aws_logit: str) -> Tensor:
    """AWS weights [P] of one sample."""
    e = p @ w + bias
    if aws_logit == "tanh":
        e = torch.tanh(e)
    return torch.exp(e) / torch.exp(e).sum()


def pooled(p: Tensor, w: Tensor | None, bias: Tensor | float, aws_logit: str) -> Tensor:
    """f [D] of one sample: the mean, or the weighted sum; zero without pairs."""
    if len(p) == 0:
        return p.new_zeros(p.shape[1])
    return p.mean(0) if w is None else weights(p, w, bias, aws_logit) @ p


def attention(x: Tensor, real: list[bool], q: tuple, k: tuple, v: tuple, heads: int = 1) -> Tensor:
    """softmax(Q K^T / sqrt(D)) V of one sample x [N, D], one head and one query after the other."""
    width = x.shape[1]
    size = width // heads
    query, key, value = (x @ w.T + (0 if b is None else b) for w, b in (q, k, v))
    seen = [n for n in range(len(real)) if real[n]]
    out = torch.zeros_like(x)
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        for i in seen:
            scores = torch.stack([query[i, part] @ key[j, part] / math.sqrt(size) for j in seen])
            share = torch.exp(scores - scores.max()) / torch.exp(scores - scores.max()).sum()
            out[i, part] = sum(s * value[j, part] for s, j in zip(share, seen, strict=True))
    return out


def pair_pool(
    a: Tensor,
    b: Tensor,
    c: Tensor,
    mask: Tensor,
    w: Tensor | None,
    bias: Tensor | None,
    pairs: str,
    groups: list[int],
    activation: str,
    aws_logit: str,
) -> Tensor:
    """`umecache.fusion.pairs.pair_pool` on [B, N, D], its pair tensor in full."""
    out = []
    for sample in range(len(a)):
        chosen = pair_list(groups, mask[sample].tolist(), pairs)
        left, right = [i for i, _ in chosen], [j for _, j in chosen]
        s = a[sample][left] + b[sample][right] + c[sample][left] * c[sample][right]
        out.append(pooled(activate(s, activation), w, 0.0 if bias is None else bias, aws_logit))
    return torch.stack(out)
