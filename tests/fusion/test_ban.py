"""`ban` against its equation, glimpse by glimpse and pair by pair."""

from __future__ import annotations

import pytest
import torch

from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.ban import BAN

LENGTHS = [{"text": 3, "image": 4}, {"text": 1, "image": 2}]


@pytest.mark.parametrize("dims", [{"text": 5, "image": 7}, {"image": 7, "text": 5}])
def test_is_the_equation(dims: dict[str, int]) -> None:
    fusion = BAN(dims, width=6, glimpses=2, input_norm="none").eval()
    batch = make_batch(dims, LENGTHS)
    f_BK, weights = fusion(batch), fusion.token_weights(batch)
    maps = dict(zip(dims, fusion.project.maps, strict=True))
    for b, lengths in enumerate(LENGTHS):
        x, y = (maps[name](batch[name][0][b, : lengths[name]]) for name in ("text", "image"))
        attention = []
        for p in fusion.p_GK:
            e = torch.zeros(len(x), len(y))
            for i in range(len(x)):
                for j in range(len(y)):
                    left, right = torch.relu(fusion.attend.left(x[i])), torch.relu(fusion.attend.right(y[j]))
                    e[i, j] = (p * left * right).sum()
            attention.append(torch.exp(e) / torch.exp(e).sum())
        for a, join, back in zip(attention, fusion.join, fusion.back, strict=True):
            glimpse = torch.zeros(6)
            for i in range(len(x)):
                for j in range(len(y)):
                    glimpse = glimpse + a[i, j] * torch.relu(join.left(x[i])) * torch.relu(join.right(y[j]))
            x = x + back(glimpse)
        torch.testing.assert_close(f_BK[b], x.sum(0), rtol=1e-5, atol=1e-5)
        mean = sum(attention) / 2
        torch.testing.assert_close(weights["text"][b, : lengths["text"]], mean.sum(1) / 2)
        torch.testing.assert_close(weights["image"][b, : lengths["image"]], mean.sum(0) / 2)


def test_two_modalities() -> None:
    for dims in ({"text": 5}, {"text": 5, "image": 7, "audio": 3}):
        with pytest.raises(UsageError, match="exactly 2 modalities"):
            BAN(dims)
    with pytest.raises(UsageError, match="glimpses"):
        BAN({"text": 5, "image": 7}, glimpses=0)
