"""`ume` against its equations: the weighted sum, its weights per token, its facts."""

from __future__ import annotations

import pytest
import torch

from tests.fusion import reference
from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.evc import EVC
from umecache.fusion.pairs import PAIRS
from umecache.fusion.ume import UME

DIMS = {"text": 5, "image": 7}
LENGTHS = [{"text": 3, "image": 4}, {"text": 1, "image": 2}]


@pytest.mark.parametrize("aws_logit", ["tanh", "linear"])
@pytest.mark.parametrize("pairs", PAIRS)
def test_is_the_equation(pairs: str, aws_logit: str) -> None:
    fusion = UME(DIMS, width=6, pairs=pairs, aws_logit=aws_logit).eval()
    with torch.no_grad():
        fusion.weigh.weight.mul_(5)
    batch = make_batch(DIMS, LENGTHS)
    f_BD, weights = fusion(batch), fusion.token_weights(batch)
    x_BND, mask_BN = fusion.project(batch), torch.cat([mask for _, mask in batch.values()], 1)
    z_BND = fusion.attend(torch.cat([tokens for tokens, _ in x_BND], 1), mask_BN)
    bias = 0.0 if fusion.weigh.bias is None else fusion.weigh.bias
    longest = [tokens.shape[1] for tokens, _ in x_BND]
    for sample in range(2):
        chosen = reference.pair_list([0] * longest[0] + [1] * longest[1], mask_BN[sample].tolist(), pairs)
        p_PD = reference.pair_vectors(*(z_BND[sample] @ w.T for w in fusion.combine.weight), chosen, "tanh")
        share_P = reference.weights(p_PD, fusion.weigh.weight[0], bias, aws_logit)
        torch.testing.assert_close(f_BD[sample], share_P @ p_PD, rtol=1e-5, atol=1e-6)
        token_N = torch.zeros(sum(longest))
        for (i, j), share in zip(chosen, share_P.detach(), strict=True):
            token_N[i] += share / 2
            token_N[j] += share / 2
        found_N = torch.cat([weights[name][sample] for name in DIMS])
        torch.testing.assert_close(found_N, token_N, rtol=1e-4, atol=1e-6)


def test_without_weights_it_is_evc() -> None:
    """w = 0: all logits are equal, the weighted sum is the mean."""
    ume, evc = UME(DIMS, width=6).eval(), EVC(DIMS, width=6).eval()
    ume.load_state_dict(evc.state_dict(), strict=False)
    with torch.no_grad():
        ume.weigh.weight.zero_()
    batch = make_batch(DIMS, LENGTHS)
    torch.testing.assert_close(ume(batch), evc(batch), rtol=1e-5, atol=1e-6)
    assert ume.facts()["aws_entropy"] == pytest.approx(1, abs=1e-5)
    assert ume.facts()["aws_effective_share"] == pytest.approx(1, abs=1e-5)


def test_a_linear_logit_has_no_bias() -> None:
    """Softmax drops it: no gradient would ever reach it."""
    assert UME(DIMS, width=6, aws_logit="linear").weigh.bias is None
    assert UME(DIMS, width=6).weigh.bias is not None


def test_facts_wait_for_a_batch_with_pairs() -> None:
    fusion = UME(DIMS, width=6)
    assert fusion.facts() == {}
    fusion(make_batch(DIMS, [{"text": 0, "image": 0}]))
    assert fusion.facts() == {}
    fusion(make_batch(DIMS, LENGTHS))
    assert 0.9 < fusion.facts()["aws_effective_share"] <= 1
    assert not any("_last" in name for name in fusion.state_dict())


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="aws_logit"):
        UME(DIMS, aws_logit="softmax")
