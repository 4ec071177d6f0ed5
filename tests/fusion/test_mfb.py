"""`mfb` against its equation, output number by output number."""

from __future__ import annotations

import pytest
import torch

from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.mfb import MFB

DIMS = {"text": 5, "image": 7}
LENGTHS = [{"text": 3, "image": 4}, {"text": 1, "image": 2}]


def test_is_the_equation() -> None:
    fusion = MFB(DIMS, width=4, factors=3, input_norm="none").eval()
    batch = make_batch(DIMS, LENGTHS)
    (u, ub), (v, vb) = ((linear.weight, linear.bias) for linear in fusion.project.maps)
    for b, lengths in enumerate(LENGTHS):
        x, y = (batch[name][0][b, : lengths[name]].mean(0) for name in DIMS)
        # Each output number is a bilinear form of rank K: x^T (sum_k u_k v_k^T) y, and what the biases add.
        z = []
        for o in range(4):
            rows = range(3 * o, 3 * o + 3)
            form = sum(torch.outer(u[k], v[k]) for k in rows)
            z.append(x @ form @ y + sum(ub[k] * (v[k] @ y) + vb[k] * (u[k] @ x) + ub[k] * vb[k] for k in rows))
        signed = torch.stack([value.abs().sqrt() * (1 if value > 0 else -1) for value in z])
        torch.testing.assert_close(fusion(batch)[b], signed / signed.norm(), rtol=1e-4, atol=1e-5)


def test_f_has_length_one() -> None:
    f_BK = MFB(DIMS, width=8)(make_batch(DIMS, LENGTHS))
    torch.testing.assert_close(f_BK.norm(dim=1), torch.ones(2))


def test_factors_are_checked() -> None:
    with pytest.raises(UsageError, match="factors"):
        MFB(DIMS, factors=0)
