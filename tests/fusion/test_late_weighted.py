"""`late-weighted` is `late-mean` with other weights."""

from __future__ import annotations

import math

import pytest
import torch

from tests.fusion.contract import make_batch
from umecache.fusion.late_mean import LateMean
from umecache.fusion.late_weighted import LateWeighted

DIMS = {"text": 5, "image": 7, "audio": 3}


def test_starts_as_the_mean_and_weighs_what_it_says() -> None:
    weighted, mean = LateWeighted(DIMS, width=4).eval(), LateMean(DIMS, width=4).eval()
    mean.load_state_dict({name: value for name, value in weighted.state_dict().items() if name != "u_M"})
    batch = make_batch(DIMS, [{"text": 3, "image": 4, "audio": 2}] * 2)
    torch.testing.assert_close(weighted(batch), mean(batch))
    u = [0.0, 1.0, -2.0]
    with torch.no_grad():
        weighted.u_M.copy_(torch.tensor(u))
    total = sum(math.exp(value) for value in u)
    for m, (name, value) in enumerate(zip(DIMS, u, strict=True)):
        share = math.exp(value) / total
        part = slice(4 * m, 4 * m + 4)
        torch.testing.assert_close(weighted(batch)[:, part], mean(batch)[:, part] * 3 * share)
        assert weighted.facts()[f"weight_{name}"] == pytest.approx(share)
