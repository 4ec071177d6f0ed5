"""`uat` against its equation."""

from __future__ import annotations

import pytest
import torch

from tests.fusion import reference
from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.pairs import ACTIVATIONS, PAIRS
from umecache.fusion.uat import UAT

DIMS = {"text": 5, "image": 7}
LENGTHS = [{"text": 3, "image": 4}, {"text": 1, "image": 2}]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pairs", PAIRS)
def test_is_the_equation(pairs: str, activation: str) -> None:
    fusion = UAT(DIMS, width=6, pairs=pairs, activation=activation, input_norm="none").eval()
    batch = make_batch(DIMS, LENGTHS)
    f_BD = fusion(batch)
    for b, lengths in enumerate(LENGTHS):
        x_ND = torch.cat(
            [
                batch[name][0][b, : lengths[name]] @ linear.weight.T + linear.bias
                for name, linear in zip(DIMS, fusion.project.maps, strict=True)
            ]
        )
        groups = [0] * lengths["text"] + [1] * lengths["image"]
        chosen = reference.pair_list(groups, [True] * len(x_ND), pairs)
        p_PD = reference.pair_vectors(*(x_ND @ w.T for w in fusion.combine.weight), chosen, activation)
        torch.testing.assert_close(f_BD[b], p_PD.mean(0), rtol=1e-5, atol=1e-6)


def test_options_are_checked() -> None:
    for option in ({"pairs": "lower"}, {"activation": "relu"}):
        with pytest.raises(UsageError, match=next(iter(option))):
            UAT(DIMS, **option)
