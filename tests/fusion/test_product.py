"""`product` against its equation."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from tests.fusion.contract import make_batch
from umecache.fusion.product import Product


def test_is_the_equation() -> None:
    dims = {"text": 5, "image": 7, "audio": 3}
    fusion = Product(dims, width=6, input_norm="none").eval()
    batch = make_batch(dims, [{"text": 3, "image": 4, "audio": 2}, {"text": 1, "image": 2, "audio": 5}])
    product = torch.ones(2, 6)
    for (tokens, mask), linear in zip(batch.values(), fusion.project.maps, strict=True):
        means = torch.stack([tokens[b][mask[b]].mean(0) for b in range(2)])
        product = product * torch.tanh(means @ linear.weight.T + linear.bias)
    w, b = fusion.hidden.linear.weight, fusion.hidden.linear.bias
    torch.testing.assert_close(fusion(batch), F.gelu(product @ w.T + b), rtol=1e-5, atol=1e-6)
