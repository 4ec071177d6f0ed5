"""`mutan` against the full Tucker product that it factorises."""

from __future__ import annotations

import pytest
import torch

from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.mutan import MUTAN

DIMS = {"text": 5, "image": 7}
LENGTHS = [{"text": 3, "image": 4}, {"text": 1, "image": 2}]


def test_is_a_tucker_product_with_slices_of_rank_r() -> None:
    """T[:, :, k] = sum_r M_r[k] N_r[k]^T; f_k = q~^T T[:, :, k] v~, biases as a constant 1 beside q~ and v~."""
    fusion = MUTAN(DIMS, width=4, rank=3, input_norm="none").eval()
    batch = make_batch(DIMS, LENGTHS)
    core = torch.zeros(5, 5, 4)
    factors = [torch.cat((s.weight, s.bias[:, None]), 1) for s in fusion.slices]  # [R * D, D + 1]
    for r in range(3):
        for k in range(4):
            core[:, :, k] += torch.outer(factors[0][4 * r + k], factors[1][4 * r + k])
    for b, lengths in enumerate(LENGTHS):
        q, v = (
            torch.cat((torch.tanh(linear(batch[name][0][b, : lengths[name]].mean(0))), torch.ones(1)))
            for name, linear in zip(DIMS, fusion.project.maps, strict=True)
        )
        torch.testing.assert_close(fusion(batch)[b], torch.einsum("q,qvk,v->k", q, core, v), rtol=1e-5, atol=1e-6)


def test_rank_is_checked() -> None:
    with pytest.raises(UsageError, match="rank"):
        MUTAN(DIMS, rank=0)
