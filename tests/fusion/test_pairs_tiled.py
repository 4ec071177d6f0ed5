"""How the tiled path cuts its work: every pair in one tile, none twice, and no tensor larger than a tile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.fusion import reference
from umecache.fusion import pairs_tiled
from umecache.fusion.pairs import PAIRS, pair_pool
from umecache.fusion.pairs_tiled import PairSpec, count_pairs, tiles

CPU = torch.device("cpu")


@pytest.mark.parametrize("side", [1, 3, 4, 20])
@pytest.mark.parametrize("pairs", PAIRS)
def test_tiles_cover_each_pair_once(pairs: str, side: int) -> None:
    groups = (0,) * 6 + (1,) * 5 + (2,) * 3
    seen = torch.zeros(14, 14, dtype=torch.int64)
    for tile in tiles(PairSpec(pairs, "tanh", groups), 14, side, CPU):
        held = seen[tile.rows, tile.cols]
        held += 1 if tile.allowed is None else tile.allowed
        assert tile.allowed is None or tile.allowed.any(), "a tile without pairs is not visited"
    expected = torch.zeros(14, 14, dtype=torch.int64)
    for i, j in reference.pair_list(list(groups), [True] * 14, pairs):
        expected[i, j] = 1
    assert torch.equal(seen, expected)


@pytest.mark.parametrize("pairs", PAIRS)
def test_pair_counts(pairs: str) -> None:
    groups = (0,) * 6 + (1,) * 5 + (2,) * 3
    mask = torch.rand(5, 14) > 0.4
    mask[4] = False
    counted = [len(reference.pair_list(list(groups), sample.tolist(), pairs)) for sample in mask]
    assert count_pairs(mask, PairSpec(pairs, "tanh", groups)).tolist() == counted


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, Tensor):
                self.numel = max(self.numel, x.numel())
        return out


@pytest.mark.parametrize("weighted", [False, True])
def test_the_pair_tensor_never_exists(monkeypatch: pytest.MonkeyPatch, weighted: bool) -> None:
    monkeypatch.setattr(pairs_tiled, "CPU_TILE", 4096)
    a, b, c = (torch.randn(2, 60, 16, requires_grad=True) for _ in range(3))
    w = torch.randn(16, requires_grad=True) if weighted else None
    with Largest() as largest:
        pair_pool(a, b, c, torch.ones(2, 60, dtype=torch.bool), w_D=w, impl="tiled").sum().backward()
    assert 0 < largest.numel <= 4096  # the pair tensor: 2 * 60 * 61 / 2 * 16 = 58,560


def test_blocks_fill_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    for budget in (64, 1000, 1 << 17):
        monkeypatch.setattr(pairs_tiled, "CPU_TILE", budget)
        samples, side = pairs_tiled.block_sizes(torch.empty(32, 61, 16))
        assert 1 <= samples <= 32
        assert 1 <= side <= 61
        assert samples * side * side * 16 <= budget
    assert (samples, side) == (2, 61)
