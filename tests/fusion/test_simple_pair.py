"""`simple-pair` against its equation, pair by pair, and its tiles against one another.

Shapes: N tokens, D width.
"""

from __future__ import annotations

import pytest
import torch

from tests.fusion import reference
from tests.fusion.contract import Batch, make_batch
from tests.fusion.measure import kept_floats
from umecache.fusion import pairs_tiled
from umecache.fusion.pairs import ACTIVATIONS, PAIRS
from umecache.fusion.simple_pair import SimplePair

DIMS = {"text": 5, "image": 7}
LENGTHS = [{"text": 3, "image": 4}, {"text": 1, "image": 2}]


def equation(fusion: SimplePair, batch: Batch) -> torch.Tensor:
    """The mean of p_ij, written out."""
    parts = fusion.project(batch)
    mask_BN = torch.cat([mask for _, mask in parts], 1)
    z_BND = fusion.attend(torch.cat([tokens for tokens, _ in parts], 1), mask_BN)
    groups = [m for m, (tokens, _) in enumerate(parts) for _ in range(tokens.shape[1])]
    w1, w2, w3, w4 = fusion.combine.weight
    means = []
    for z_ND, real in zip(z_BND, mask_BN.tolist(), strict=True):
        p = [
            reference.activate(
                w1 @ z_ND[i] + w2 @ z_ND[j] + w3 @ (z_ND[i] - z_ND[j]) + w4 @ (z_ND[i] * z_ND[j]), fusion.activation
            )
            for i, j in reference.pair_list(groups, real, fusion.pairs)
        ]
        means.append(torch.stack(p).mean(0))
    return torch.stack(means)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("tile", [1, 4 * 6, 1 << 17])
def test_is_the_equation(pairs: str, activation: str, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients, whatever the tile."""
    monkeypatch.setattr(pairs_tiled, "CPU_TILE", tile)
    fusion = SimplePair(DIMS, width=6, pairs=pairs, activation=activation)
    batch = make_batch(DIMS, LENGTHS)
    values, grads = [], []
    for forward in (fusion, lambda features: equation(fusion, features)):
        fusion.zero_grad()
        f_BD = forward(batch)
        f_BD.square().sum().backward()
        values.append(f_BD.detach())
        grads.append({name: p.grad.clone() for name, p in fusion.named_parameters()})
    torch.testing.assert_close(values[0], values[1], rtol=1e-5, atol=1e-6)
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-4, atol=1e-6)


def test_memory_grows_with_tokens_not_with_pairs() -> None:
    fusion = SimplePair(DIMS, width=6)
    few, many = (kept_floats(fusion, make_batch(DIMS, [{"text": n, "image": n}])) for n in (10, 40))
    assert many < 4.1 * few
