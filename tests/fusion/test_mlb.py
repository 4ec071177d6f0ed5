"""`mlb` against the bilinear form that it factorises."""

from __future__ import annotations

import pytest
import torch

from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.mlb import MLB

DIMS = {"text": 5, "image": 7, "audio": 3}
LENGTHS = [{"text": 3, "image": 4, "audio": 2}, {"text": 1, "image": 2, "audio": 0}]


def test_is_the_equation() -> None:
    """The second record has no audio: tanh of the bias stands for it."""
    fusion = MLB(DIMS, width=4, rank=6, input_norm="none").eval()
    batch = make_batch(DIMS, LENGTHS)
    for b, lengths in enumerate(LENGTHS):
        f = fusion.out.bias.clone()
        for r in range(6):
            term = torch.ones(())
            for name, linear in zip(DIMS, fusion.project.maps, strict=True):
                x = batch[name][0][b, : lengths[name]].sum(0) / max(1, lengths[name])
                term = term * torch.tanh(linear.weight[r] @ x + linear.bias[r])
            f = f + term * fusion.out.weight[:, r]
        torch.testing.assert_close(fusion(batch)[b], f, rtol=1e-5, atol=1e-6)


def test_rank_is_checked() -> None:
    with pytest.raises(UsageError, match="rank"):
        MLB(DIMS, rank=0)
