"""`lmf` against the full tensor fusion that it stands for."""

from __future__ import annotations

import pytest
import torch

from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.lmf import LMF

DIMS = {"text": 5, "image": 7, "audio": 3}
LENGTHS = [{"text": 3, "image": 4, "audio": 2}, {"text": 1, "image": 2, "audio": 0}]


def test_is_a_tensor_fusion_of_low_rank() -> None:
    """W[o] = sum_r w_1r (x) w_2r (x) w_3r, applied to [x; 1] (x) [y; 1] (x) [a; 1]."""
    rank, width = 2, 4
    fusion = LMF(DIMS, width=width, rank=rank, input_norm="none").eval()
    batch = make_batch(DIMS, LENGTHS)
    factors = [torch.cat((m.weight, m.bias[:, None]), 1).view(rank, width, -1) for m in fusion.project.maps]
    weight = torch.einsum("roi,roj,rok->oijk", *factors)
    for b, lengths in enumerate(LENGTHS):
        x = [
            torch.cat((batch[name][0][b, : lengths[name]].sum(0) / max(1, lengths[name]), torch.ones(1)))
            for name in DIMS
        ]
        outer = torch.einsum("i,j,k->ijk", *x)
        expected = torch.stack([(weight[o] * outer).sum() for o in range(width)])
        torch.testing.assert_close(fusion(batch)[b], expected, rtol=1e-4, atol=1e-5)


def test_rank_is_checked() -> None:
    with pytest.raises(UsageError, match="rank"):
        LMF(DIMS, rank=0)
