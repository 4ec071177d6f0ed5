"""`evc` against its equations, from features to f, with the four maps as printed."""

from __future__ import annotations

import pytest
import torch

from tests.fusion import reference
from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.evc import EVC, PairMaps
from umecache.fusion.pairs import ACTIVATIONS, PAIRS

DIMS = {"text": 5, "image": 7, "audio": 4}
LENGTHS = [{"text": 3, "image": 4, "audio": 2}, {"text": 1, "image": 2, "audio": 5}]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pairs", PAIRS)
def test_is_the_equation(pairs: str, activation: str) -> None:
    fusion = EVC(DIMS, width=6, pairs=pairs, activation=activation, input_norm="none").eval()
    batch = make_batch(DIMS, LENGTHS)
    f_BD = fusion(batch)
    attend = fusion.attend
    q, k, v = ((layer.weight, layer.bias) for layer in (attend.query, attend.key, attend.value))
    for sample, lengths in enumerate(LENGTHS):
        groups = [number for number, count in enumerate(lengths.values()) for _ in range(count)]
        parts = [
            tokens[sample][mask[sample]] @ linear.weight.T + linear.bias
            for (tokens, mask), linear in zip(batch.values(), fusion.project.maps, strict=True)
        ]
        real = [True] * len(groups)
        z_ND = reference.attention(torch.cat(parts), real, q, k, v)
        u = [z_ND @ w.T for w in fusion.combine.weight]
        p_PD = reference.pair_vectors(*u, reference.pair_list(groups, real, pairs), activation)
        torch.testing.assert_close(f_BD[sample], p_PD.mean(0), rtol=1e-5, atol=1e-6)


def test_pair_maps_start_as_linear_layers_do() -> None:
    weight = PairMaps(100).weight.detach()
    assert float(weight.abs().max()) <= 0.1
    assert float(weight.std()) == pytest.approx(0.1 / 3**0.5, rel=0.02)


def test_gradients_of_all_four_maps_differ() -> None:
    """W1 and W3 meet in A, W2 and W3 in B: each still gets its own gradient."""
    fusion = EVC({"text": 5, "image": 7}, width=6)
    fusion(make_batch({"text": 5, "image": 7}, [{"text": 3, "image": 4}])).square().sum().backward()
    g1, g2, g3, g4 = fusion.combine.weight.grad
    torch.testing.assert_close(g3, g1 - g2)
    assert float(g4.abs().max()) > 0


def test_options_are_checked() -> None:
    for option in ({"pairs": "lower"}, {"activation": "relu"}):
        with pytest.raises(UsageError, match=next(iter(option))):
            EVC(DIMS, **option)


def test_cross_pairs_of_one_modality_are_none() -> None:
    fusion = EVC({"text": 5}, width=6, pairs="cross").eval()
    assert (fusion(make_batch({"text": 5}, [{"text": 3}])) == torch.zeros(6)).all()
