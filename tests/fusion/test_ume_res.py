"""`ume-res` is `ume` with one option on."""

from __future__ import annotations

import torch

from tests.fusion.contract import make_batch
from umecache.fusion.ume import UME
from umecache.fusion.ume_res import UMEResidual

DIMS = {"text": 5, "image": 7}


def test_is_ume_with_the_residual_on() -> None:
    res, ume = UMEResidual(DIMS, width=6).eval(), UME(DIMS, width=6, residual=True).eval()
    ume.load_state_dict(res.state_dict(), strict=True)
    batch = make_batch(DIMS, [{"text": 3, "image": 4}])
    assert torch.equal(ume(batch), res(batch))
    drawn = UME(DIMS, width=6).eval()
    drawn.load_state_dict(res.state_dict(), strict=False)
    assert not torch.allclose(drawn(batch), res(batch), atol=1e-3)
