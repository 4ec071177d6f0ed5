"""`late-mean` under a linear head is the mean of its members' logits."""

from __future__ import annotations

import torch
from torch import nn

from tests.fusion.contract import make_batch
from umecache.fusion.image_only import ImageOnly
from umecache.fusion.late_mean import LateMean
from umecache.fusion.text_only import TextOnly

DIMS = {"text": 5, "image": 7}


def test_is_the_mean_of_the_controls_logits() -> None:
    """Two trained controls, each with its head, put together."""
    batch = make_batch(DIMS, [{"text": 3, "image": 4}, {"text": 1, "image": 2}])
    ensemble, head = LateMean(DIMS, width=6).eval(), nn.Linear(12, 9)
    logits = 0.0
    for number, control in enumerate((TextOnly(DIMS, width=6), ImageOnly(DIMS, width=6))):
        own_head = nn.Linear(6, 9)
        logits = logits + own_head(control.eval()(batch)) / 2
        ensemble.project.maps[number].load_state_dict(control.project.maps[0].state_dict())
        ensemble.members[number].load_state_dict(control.hidden.state_dict())
        with torch.no_grad():
            head.weight[:, 6 * number : 6 * number + 6] = own_head.weight
            head.bias += own_head.bias / 2 - (head.bias if number == 0 else 0)
    torch.testing.assert_close(head(ensemble(batch)), logits, rtol=1e-5, atol=1e-6)


def test_modalities_never_meet() -> None:
    fusion = LateMean(DIMS, width=6).eval()
    batch = make_batch(DIMS, [{"text": 3, "image": 4}])
    tokens, mask = batch["image"]
    other = fusion({**batch, "image": (torch.randn_like(tokens), mask)})
    assert torch.equal(other[:, :6], fusion(batch)[:, :6])
    assert not torch.allclose(other[:, 6:], fusion(batch)[:, 6:])
