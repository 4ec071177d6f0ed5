"""What every method costs (`cost.py` explains the symbols), tested against what is measured.

    parameters, multiply-adds and kept floats, as functions of D, N and the method's options

A linear map of a token costs its weights in multiply-adds and keeps its input for the backward pass.
"""

from __future__ import annotations

from umecache.fusion.cost import Cost, Expr, symbol

D, M, I, N, X, S, P, G = (symbol(name) for name in "DMINXSPG")  # noqa: E741
heads, layers, expand, rank = symbol("heads"), symbol("layers"), symbol("expand"), symbol("rank")
chunks, glimpses, bottlenecks = symbol("chunks"), symbol("glimpses"), symbol("bottlenecks")
factors, order, core, sketch = symbol("factors"), symbol("order"), symbol("core"), symbol("sketch")
inner, outer, gates = symbol("inner"), symbol("outer"), symbol("gates")
latents, queries = symbol("latents"), symbol("queries")
CROSS = (N**2 - S) / 2  # pairs of tokens of different modalities

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


def simple_pair(residual: Expr | int) -> Cost:
    """EVC with a dense map per pair, and A and B only."""
    base = attention(residual)
    return Cost(
        base.parameters + 4 * D**2,
        base.macs + 2 * N * D**2 + P * D**2 + P * D,
        base.memory + 2 * N * D + residual * N * D,
    )


def multi_head(queries: Expr, seen: Expr, pairs: Expr) -> Cost:
    """`blocks.MultiHead`: so many tokens look at so many, in `pairs` pairs; without the tokens themselves."""
    return Cost(
        4 * D**2 + 3 * D,
        2 * (queries + seen) * D**2 + 2 * pairs * D,
        2 * (queries + seen) * D + heads * queries + seen,
    )


def feed(tokens: Expr, kept: int) -> Cost:
    """`blocks.FeedForward`: relu keeps its result only, which the next map needs too; gelu keeps its input as well."""
    return Cost(2 * expand * D**2 + (expand + 1) * D, 2 * expand * tokens * D**2, kept * expand * tokens * D)


def norm(tokens: Expr) -> Expr:
    """What LayerNorm and the map after it keep: its input, its result, mean and deviation of each token."""
    return 2 * tokens * D + 2 * tokens


def mcan() -> Cost:
    """Text to itself, the others to themselves and to the text; a map of each token; scores from two layers."""
    others = N - G
    to_self, guided, maps = multi_head(N, N, S), multi_head(others, (M - 1) * G, others * G), feed(N, kept=1)
    weights = M * to_self.parameters + (M - 1) * guided.parameters + M * maps.parameters + 2 * (3 * M - 1) * D
    return Cost(
        MAPS + layers * weights + M * (2 * D**2 + 3 * D) + 2 * D,
        X * D + layers * (to_self.macs + guided.macs + maps.macs) + N * (D**2 + 2 * D) + M * D**2,
        X
        + N * D
        + layers * (to_self.memory + guided.memory + maps.memory + norm(3 * N - G))
        + N * (D + 2)
        + (M + 1) * D,
    )


def mbt() -> Cost:
    """CLS and bottleneck tokens beside each modality's own, in a transformer of its own."""
    added = 1 + bottlenecks
    tokens = N + M * added
    attend, maps = multi_head(tokens, tokens, S + 2 * N * added + M * added**2), feed(tokens, kept=2)
    block = attend.parameters + maps.parameters + 4 * D
    return Cost(
        MAPS + M * D + bottlenecks * D + layers * M * block + 2 * D,
        X * D + layers * (attend.macs + maps.macs),
        X + layers * (attend.memory + maps.memory + 2 * norm(tokens)) + M * D,
    )


def film() -> Cost:
    """g and b from the pooled guide; two maps per block and one at the end, of all other tokens."""
    others = N - G
    return Cost(
        MAPS + 2 * layers * (D**2 + D) + 2 * layers * (D**2 + D) + D**2 + D,
        X * D + 2 * layers * D**2 + others * (2 * layers + 1) * D**2,
        X + 2 * others * D + layers * (others * (5 * D + 2) + D) + 2 * D,
    )


def vilbert() -> Cost:
    """Co-attention and self-attention of every stream, each with its feed-forward map."""
    across, within, maps = multi_head(N, (M - 1) * N, N**2 - S), multi_head(N, N, S), feed(N, kept=2)
    block = within.parameters + maps.parameters + 4 * D
    return Cost(
        MAPS + 2 * layers * M * block,
        X * D + layers * (across.macs + within.macs + 2 * maps.macs),
        X
        + layers * (across.memory + within.memory + 2 * maps.memory + 4 * norm(N))
        + (gates - 1) * layers * N * D  # of more than two streams, those looked at are joined
        + 2 * (M - 1) * D,
    )


def perceiver() -> Cost:
    """Latents to tokens, latents to latents, each with its feed-forward map."""
    read, think = multi_head(latents, N, latents * N), multi_head(latents, latents, latents**2)
    maps = feed(latents, kept=2)
    kept = read.memory + think.memory + 2 * maps.memory + 4 * norm(latents) + N * D + 2 * N
    return Cost(
        MAPS + latents * D + layers * (read.parameters + think.parameters + 2 * maps.parameters + 10 * D),
        X * D + layers * (read.macs + think.macs + 2 * maps.macs),
        X + N * D + layers * kept - latents * D,
    )


def q_former() -> Cost:
    """Queries with the text, queries to the rest; the text's own maps in all layers but the last."""
    others, both, early = N - G, queries + G, layers - 1
    mixed, last = multi_head(both, both, both**2), multi_head(queries, both, queries * both)
    image, asked, text = multi_head(queries, others, queries * others), feed(queries, kept=2), feed(G, kept=2)
    kept = image.memory + asked.memory + both * D + norm(queries) + queries * (D + 2)
    kept_early = mixed.memory + text.memory + norm(both) + G * (D + 2)
    return Cost(
        MAPS
        + queries * D
        + layers * (2 * mixed.parameters + asked.parameters + 6 * D)
        + early * (text.parameters + 2 * D),
        X * D + early * (mixed.macs + text.macs) + last.macs + layers * (image.macs + asked.macs),
        X + others * D + layers * kept + early * kept_early + queries * D + last.memory + norm(queries),
    )


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
    "lstm-q-norm-i": Cost(MAPS, I * D, I + 2 * (M - 1) * D),
    "late-mean": Cost(MAPS + M * HIDDEN, I * D + M * D**2, I + 2 * M * D),
    "late-weighted": Cost(MAPS + M * HIDDEN + M, I * D + M * D**2, I + 3 * M * D),
    "simple-pair": simple_pair(symbol("residual")),
    "uat": Cost(MAPS + 4 * D**2, X * D + 3 * N * D**2 + 2 * P * D, X + 4 * N * D + D),
    "mutan": Cost(MAPS + M * rank * (D**2 + D), I * D + M * rank * D**2, I + M * D + 2 * (M - 1) * rank * D),
    "block": Cost(
        MAPS + M * rank * (D**2 / chunks + D) + D**2 + D,
        I * D + M * rank * D**2 / chunks + D**2,
        I + M * D + 2 * (M - 1) * rank * D + 4 * D + 2 * chunks,
    ),
    "ban": Cost(
        MAPS + 2 * D**2 + 2 * D + glimpses * (3 * D**2 + 4 * D),
        X * D + N * D**2 + CROSS * D * glimpses + glimpses * (N * D**2 + CROSS * D + D**2),
        X + 2 * N * D - G * D + glimpses * (N * D + 3 * G * D + D) + 2 * glimpses * CROSS,
    ),
    "mcan": mcan(),
    "mbt": mbt(),
    "mlb": Cost(rank * (I + M) + rank * D + D, I * rank + rank * D, I + (2 * M - 1) * rank),
    "mfb": Cost(factors * MAPS, factors * I * D, I + 2 * (M - 1) * factors * D + 3 * D + 2),
    "mfh": Cost(
        factors * MAPS,
        factors * I * D,
        I + 2 * (M - 1) * factors * D + 2 * factors * D - 2 * factors * D / order + 3 * D + 2 * order,
    ),
    "tucker": Cost(core * (I + M) + core**2 * D, I * core + core**2 * D + core * D, I + M * core + core * D),
    "mcb": Cost(sketch * D + D, sketch * D, sketch),
    "tfn": Cost(inner * (I + M) + outer * D + D, I * inner + outer * D, I + M * (inner + 1) + outer + D),
    "lmf": Cost(rank * MAPS, rank * I * D, I + 2 * (M - 1) * rank * D),
    "film": film(),
    "gmu": Cost(MAPS * (gates + 1), I * D * (gates + 1), I + 2 * M * D),
    "vilbert": vilbert(),
    "perceiver": perceiver(),
    "q-former": q_former(),
}
