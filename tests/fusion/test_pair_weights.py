"""The summary of AWS weights against the weights themselves."""

from __future__ import annotations

import math

import pytest
import torch

from tests.fusion import reference
from umecache.fusion import pairs_tiled
from umecache.fusion.pair_weights import pair_weights_summary
from umecache.fusion.pairs import PAIRS

GROUPS = [0] * 5 + [1] * 6


@pytest.mark.parametrize("tile", [64, 1 << 17])
@pytest.mark.parametrize("aws_logit", ["tanh", "linear"])
@pytest.mark.parametrize("pairs", PAIRS)
def test_equals_the_weights(monkeypatch: pytest.MonkeyPatch, pairs: str, aws_logit: str, tile: int) -> None:
    monkeypatch.setattr(pairs_tiled, "CPU_TILE", tile)
    a, b, c = (torch.randn(4, 11, 8) for _ in range(3))
    w, bias = 3 * torch.randn(8), torch.randn(())
    mask = torch.rand(4, 11) > 0.3
    mask[2], mask[3] = False, torch.arange(11) == 4
    found = pair_weights_summary(
        a, b, c, mask, w_D=w, bias=bias, pairs=pairs, groups_N=GROUPS, activation="tanh2", aws_logit=aws_logit
    )
    for sample in range(4):
        chosen = reference.pair_list(GROUPS, mask[sample].tolist(), pairs)
        assert int(found.pairs[sample]) == len(chosen)
        token = torch.zeros(11)
        if not chosen:
            assert (found.token[sample] == 0).all()
            assert float(found.entropy[sample]) == float(found.effective_share[sample]) == 0
            continue
        p = reference.pair_vectors(a[sample], b[sample], 0 * a[sample], c[sample], chosen, "tanh2")
        share = reference.weights(p, w, bias, aws_logit)
        for (i, j), s in zip(chosen, share, strict=True):
            token[i] += s / 2
            token[j] += s / 2
        torch.testing.assert_close(found.token[sample], token, rtol=1e-4, atol=1e-6)
        entropy = float(-(share * share.clamp(min=1e-30).log()).sum())
        assert float(found.entropy[sample]) == pytest.approx(entropy, abs=1e-4)
        largest = math.log(len(chosen)) if len(chosen) > 1 else 0
        assert float(found.relative_entropy[sample]) == pytest.approx(entropy / largest if largest else 1, abs=1e-4)
        effective = 1 / float(share.square().sum()) / len(chosen)
        assert float(found.effective_share[sample]) == pytest.approx(effective, rel=1e-4)


def test_bounded_logits_keep_the_weights_near_uniform() -> None:
    """The effective share of pairs can't fall below 4 e^2 / (1 + e^2)^2 = 0.42, whatever w is; linear logits can."""
    a, b, c = (torch.randn(3, 30, 8) for _ in range(3))
    mask = torch.ones(3, 30, dtype=torch.bool)
    bound = 4 * math.e**2 / (1 + math.e**2) ** 2
    bounded = pair_weights_summary(a, b, c, mask, w_D=100 * torch.randn(8))
    linear = pair_weights_summary(a, b, c, mask, w_D=100 * torch.randn(8), aws_logit="linear")
    assert bound - 1e-3 < float(bounded.effective_share.min()) < 0.6
    assert float(linear.effective_share.max()) < 0.05
