"""`concat` against its equation."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from tests.fusion.contract import make_batch
from umecache.fusion.concat import Concat


def test_is_the_equation() -> None:
    fusion = Concat({"text": 5, "image": 7}, width=6, input_norm="none").eval()
    batch = make_batch({"text": 5, "image": 7}, [{"text": 3, "image": 4}, {"text": 1, "image": 2}])
    pooled = []
    for (tokens, mask), linear in zip(batch.values(), fusion.project.maps, strict=True):
        means = [tokens[b][mask[b]].mean(0) for b in range(2)]
        pooled.append(torch.stack(means) @ linear.weight.T + linear.bias)  # the mean of maps is the map of the mean
    w, b = fusion.hidden.linear.weight, fusion.hidden.linear.bias
    torch.testing.assert_close(fusion(batch), F.gelu(torch.cat(pooled, 1) @ w.T + b), rtol=1e-5, atol=1e-6)
    assert fusion.out_dim == 6
