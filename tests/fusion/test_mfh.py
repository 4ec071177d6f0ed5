"""`mfh` against its cascade, and against `mfb`, which is its first block."""

from __future__ import annotations

import pytest
import torch

from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.mfb import MFB
from umecache.fusion.mfh import MFH

DIMS = {"text": 5, "image": 7}
LENGTHS = [{"text": 3, "image": 4}, {"text": 1, "image": 2}]


def test_is_the_equation() -> None:
    order, factors, size = 3, 2, 4
    fusion = MFH(DIMS, width=11, factors=factors, order=order, input_norm="none").eval()
    assert fusion.out_dim == 12, "rounded up to whole blocks"
    batch = make_batch(DIMS, LENGTHS)
    for b, lengths in enumerate(LENGTHS):
        x, y = (batch[name][0][b, : lengths[name]].mean(0) for name in DIMS)
        (u, ub), (v, vb) = ((linear.weight, linear.bias) for linear in fusion.project.maps)
        e, blocks = torch.ones(size * factors), []
        for i in range(order):
            rows = slice(i * size * factors, (i + 1) * size * factors)
            e = e * (u[rows] @ x + ub[rows]) * (v[rows] @ y + vb[rows])
            z = torch.stack([e[factors * o : factors * o + factors].sum() for o in range(size)])
            z = torch.sign(z) * z.abs().sqrt()
            blocks.append(z / z.norm())
        torch.testing.assert_close(fusion(batch)[b], torch.cat(blocks), rtol=1e-3, atol=1e-4)


def test_order_one_is_mfb() -> None:
    one, mfb = MFH(DIMS, width=6, order=1).eval(), MFB(DIMS, width=6).eval()
    mfb.load_state_dict(one.state_dict())
    batch = make_batch(DIMS, LENGTHS)
    assert torch.equal(one(batch), mfb(batch))


def test_options_are_checked() -> None:
    for option in ({"factors": 0}, {"order": 0}):
        with pytest.raises(UsageError, match=next(iter(option))):
            MFH(DIMS, **option)
