"""What every method costs (`cost.py` explains the symbols), tested against what is measured.

    parameters, multiply-adds and kept floats, as functions of D, N and the method's options

A linear map of a token costs its weights in multiply-adds and keeps its input for the backward pass.
"""

from __future__ import annotations

from umecache.fusion.cost import Cost, Expr, symbol

D, M, I, N, X, S, P, G = (symbol(name) for name in "DMINXSPG")  # noqa: E741
heads = symbol("heads")

MAPS = I * D + M * D  # weights of TokenProjection
HIDDEN = D**2 + D  # weights of Hidden; it keeps 2 D, the inputs of its map and of gelu


def attention(residual: Expr | int) -> Cost:
    """Softmax attention over all tokens, in one fused kernel: Q, K, V and the result are kept, the N^2 weights not."""
    return Cost(
        parameters=MAPS + 3 * D**2 + 2 * D + 2 * residual * D,
        macs=X * D + 3 * N * D**2 + 2 * N**2 * D,
        memory=X + 5 * N * D + N + heads * N + residual * (N * D + 2 * N),
    )


def evc(residual: Expr | int) -> Cost:
    """Attention, the maps to A, B and C, the pair stage."""
    base = attention(residual)
    memory = base.memory + 3 * N * D + D + residual * N * D
    return Cost(base.parameters + 4 * D**2, base.macs + 3 * N * D**2 + 2 * P * D, memory)


def ume(residual: Expr | int) -> Cost:
    """EVC, its pairs weighted."""
    base = evc(residual)
    return Cost(base.parameters + D + 1, base.macs + P * D, base.memory)


CONTROL = Cost(MAPS + HIDDEN, I * D + D**2, I + 2 * D)

COSTS: dict[str, Cost] = {
    "text-only": CONTROL,
    "image-only": CONTROL,
    "concat": Cost(MAPS + M * D**2 + D, I * D + M * D**2, I + M * D + D),
    "product": Cost(MAPS + HIDDEN, I * D + D**2, I + 2 * M * D + 2 * D),
    "attention": attention(symbol("residual")),
    "evc": evc(symbol("residual")),
    "ume": ume(symbol("residual")),
    "ume-res": ume(residual=1),
}
