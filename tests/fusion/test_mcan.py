"""`mcan` against its equations, one sample at a time without padding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.fusion.contract import make_batch
from tests.fusion.test_blocks import attend
from umecache.errors import UsageError
from umecache.fusion.mcan import MCAN

DIMS = {"image": 7, "text": 5, "audio": 3}
LENGTHS = [{"text": 3, "image": 4, "audio": 2}, {"text": 1, "image": 2, "audio": 3}]


def test_is_the_equation() -> None:
    fusion = MCAN(DIMS, width=8, layers=2, heads=2, input_norm="none").eval()
    batch = make_batch(DIMS, LENGTHS)
    f_BK = fusion(batch)

    def feed(unit, y, norm):
        hidden = torch.relu(y @ unit.feed.up.weight.T + unit.feed.up.bias)
        return normed(norm, y + hidden @ unit.feed.down.weight.T + unit.feed.down.bias)

    def normed(norm, y):
        return F.layer_norm(y, (8,)) * norm.weight + norm.bias

    def reduced(reduce, y):
        first, _, last = reduce.score
        e = torch.stack([last.weight[0] @ torch.relu(first.weight @ token + first.bias) for token in y])
        a = torch.exp(e) / torch.exp(e).sum()
        return reduce.out.weight @ sum(share * token for share, token in zip(a, y, strict=True)) + reduce.out.bias

    for b, lengths in enumerate(LENGTHS):
        image, x, audio = (
            linear(batch[name][0][b, : lengths[name]]) for name, linear in zip(DIMS, fusion.project.maps, strict=True)
        )
        for unit in fusion.stacks[1]:
            x = normed(unit.norms[0], x + attend(unit.to_self, x, x))
            x = feed(unit, x, unit.norms[1])
        total = reduced(fusion.reduce[1], x)
        for number, y in ((0, image), (2, audio)):
            for unit in fusion.stacks[number]:
                y = normed(unit.norms[0], y + attend(unit.to_self, y, y))
                y = normed(unit.norms[1], y + attend(unit.to_guide, y, x))
                y = feed(unit, y, unit.norms[2])
            total = total + reduced(fusion.reduce[number], y)
        torch.testing.assert_close(f_BK[b], normed(fusion.norm, total), rtol=1e-4, atol=1e-5)


def test_options_are_checked() -> None:
    for option in ({"layers": 0}, {"heads": 3}, {"expand": 0}):
        with pytest.raises(UsageError, match=next(iter(option))):
            MCAN(DIMS, width=8, **option)
