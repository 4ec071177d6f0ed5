"""Attention with several heads against its equation, head by head and query by query.

Shapes: T queries, N tokens attended to, K width.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from umecache.errors import UsageError
from umecache.fusion.blocks import FeedForward, MultiHead, PreNorm, looks


def attend(layer: MultiHead, x_TK: Tensor, seen_NK: Tensor) -> Tensor:
    """The equation, one sample without padding."""
    size = x_TK.shape[1] // layer.heads
    q, k, v = layer.query(x_TK), layer.key(seen_NK), layer.value(seen_NK)
    rows = []
    for t in range(len(x_TK)):
        heads = []
        for h in range(layer.heads):
            part = slice(h * size, (h + 1) * size)
            e_N = torch.exp(torch.stack([q[t, part] @ k[n, part] / size**0.5 for n in range(len(seen_NK))]))
            heads.append(sum(e * v[n, part] for n, e in enumerate(e_N / e_N.sum())))
        rows.append(layer.out(torch.cat(heads)))
    return torch.stack(rows)


def given(layer: MultiHead, x_TK: Tensor, seen_NK: Tensor) -> Tensor:
    """How much each token of `seen` gets from those of x, mean over heads and askers [N], by plain softmax."""
    size = x_TK.shape[1] // layer.heads
    q, k = layer.query(x_TK), layer.key(seen_NK)
    maps = []
    for h in range(layer.heads):
        part = slice(h * size, (h + 1) * size)
        for t in range(len(x_TK)):
            e_N = torch.exp(torch.stack([q[t, part] @ k[n, part] / size**0.5 for n in range(len(seen_NK))]))
            maps.append(e_N / e_N.sum())
    return torch.stack(maps).mean(0).detach()


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_weights_are_the_plain_softmax(heads: int) -> None:
    layer = MultiHead(8, heads)
    x_BTK, seen_BNK = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask_BN = torch.tensor([[True] * 5, [True, False, True, True, False]])
    asking_BT = torch.tensor([[True, True, False], [True] * 3])
    found_BN = layer.weights(x_BTK, seen_BNK, mask_BN, asking_BT)
    for b in range(2):
        expected = given(layer, x_BTK[b][asking_BT[b]], seen_BNK[b][mask_BN[b]])
        torch.testing.assert_close(found_BN[b][mask_BN[b]], expected, rtol=1e-5, atol=1e-6)
    assert (found_BN[~mask_BN] == 0).all()


def test_looks_are_those_of_the_forward_pass_and_leave_nothing_behind() -> None:
    block = PreNorm(8, 2, 2, 0.0)
    z_BTK, mask_BN = torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)
    first, second = looks(block, lambda: (block(z_BTK, mask_BN), block(2 * z_BTK + 1, mask_BN)))
    assert first.layer is second.layer is block.attend
    torch.testing.assert_close(first.asking, block.norm_attend(z_BTK))
    torch.testing.assert_close(first.weights(mask_BN).sum(1), torch.ones(2))
    assert not first.asking.requires_grad
    with pytest.raises(RuntimeError):
        looks(block, lambda: block(torch.randn(2, 3, 5), mask_BN))
    assert not block.attend._forward_pre_hooks


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_is_the_equation(heads: int) -> None:
    layer = MultiHead(8, heads)
    x_BTK, seen_BNK = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask_BN = torch.tensor([[True] * 5, [True, False, True, True, False]])
    z_BTK = layer(x_BTK, seen_BNK, mask_BN)
    for b in range(2):
        torch.testing.assert_close(z_BTK[b], attend(layer, x_BTK[b], seen_BNK[b][mask_BN[b]]), rtol=1e-5, atol=1e-6)


def test_nothing_to_attend_to_gives_zeros() -> None:
    layer, x_BTK = MultiHead(8, 2), torch.randn(2, 3, 8)
    assert (layer(x_BTK, torch.randn(2, 0, 8), torch.ones(2, 0, dtype=torch.bool)) == 0).all()
    mask_BN = torch.tensor([[True, True], [False, False]])
    z_BTK = layer(x_BTK, torch.randn(2, 2, 8), mask_BN)
    assert (z_BTK[1] == 0).all()
    assert (z_BTK[0] != 0).any()


def test_heads_must_divide_the_width() -> None:
    for heads in (3, 0, True):
        with pytest.raises(UsageError, match="heads"):
            MultiHead(8, heads)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_feed_forward(activation: str) -> None:
    feed = FeedForward(4, 3, activation)
    assert feed.up.out_features == 12
    x = torch.randn(2, 5, 4)
    act = {"relu": nn.functional.relu, "gelu": nn.functional.gelu}[activation]
    hidden = act(x @ feed.up.weight.T + feed.up.bias)
    torch.testing.assert_close(feed(x), hidden @ feed.down.weight.T + feed.down.bias)
    with pytest.raises(UsageError, match="expand"):
        FeedForward(4, 0)


@pytest.mark.parametrize("cross", [False, True])
def test_pre_norm(cross: bool) -> None:
    block = PreNorm(8, 2, 2, 0.0, cross=cross)
    z_TK, other_NK = torch.randn(3, 8), torch.randn(5, 8)
    seen_NK = block.norm_seen(other_NK) if block.norm_seen is not None else block.norm_attend(z_TK)
    expected = z_TK + attend(block.attend, block.norm_attend(z_TK), seen_NK)
    expected = expected + block.feed(block.norm_feed(expected))
    mask_BN = torch.ones(1, len(seen_NK), dtype=torch.bool)
    found = block(z_TK[None], mask_BN, other_NK[None]) if cross else block(z_TK[None], mask_BN)
    torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-6)
