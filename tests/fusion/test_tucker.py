"""`tucker` against its equation, and its two modalities."""

from __future__ import annotations

import pytest
import torch

from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.tucker import Tucker

DIMS = {"text": 5, "image": 7}
LENGTHS = [{"text": 3, "image": 4}, {"text": 1, "image": 2}]


def test_is_the_equation() -> None:
    fusion = Tucker(DIMS, width=4, core=3, input_norm="none").eval()
    batch = make_batch(DIMS, LENGTHS)
    for b, lengths in enumerate(LENGTHS):
        q, v = (
            torch.tanh(linear(batch[name][0][b, : lengths[name]].mean(0)))
            for name, linear in zip(DIMS, fusion.project.maps, strict=True)
        )
        expected = torch.zeros(4)
        for i in range(3):
            for j in range(3):
                expected = expected + q[i] * v[j] * fusion.core_CCK[i, j]
        torch.testing.assert_close(fusion(batch)[b], expected, rtol=1e-5, atol=1e-6)


def test_two_modalities() -> None:
    with pytest.raises(UsageError, match="exactly 2 modalities"):
        Tucker({**DIMS, "audio": 3})
    with pytest.raises(UsageError, match="core"):
        Tucker(DIMS, core=0)
