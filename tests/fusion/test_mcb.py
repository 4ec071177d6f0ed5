"""`mcb`: the convolution of sketches is the sketch of the outer product, and sketches keep inner products."""

from __future__ import annotations

import pytest
import torch

from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.mcb import MCB, CountSketch

DIMS = {"text": 5, "image": 7, "audio": 3}
LENGTHS = [{"text": 3, "image": 4, "audio": 2}, {"text": 1, "image": 2, "audio": 1}]


def test_is_the_sketch_of_the_outer_product() -> None:
    """Place (i, j, k) of the outer product goes to (h(i) + h(j) + h(k)) mod size, with the product of the signs."""
    size = 11
    fusion = MCB(DIMS, width=4, sketch=size, input_norm="none").eval()
    batch = make_batch(DIMS, LENGTHS)
    h = [sketch.places.tolist() for sketch in fusion.sketches]
    s = [sketch.signs.tolist() for sketch in fusion.sketches]
    for b, lengths in enumerate(LENGTHS):
        x, y, w = (batch[name][0][b, : lengths[name]].mean(0).tolist() for name in DIMS)
        z = torch.zeros(size)
        for i in range(5):
            for j in range(7):
                for k in range(3):
                    z[(h[0][i] + h[1][j] + h[2][k]) % size] += s[0][i] * x[i] * s[1][j] * y[j] * s[2][k] * w[k]
        u = z.sign() * z.abs().sqrt()
        expected = fusion.out.weight @ (u / u.norm()) + fusion.out.bias
        torch.testing.assert_close(fusion(batch)[b], expected, rtol=1e-3, atol=1e-4)


def test_sketches_keep_inner_products_on_average() -> None:
    x, y = torch.randn(2, 6)
    products = []
    for _ in range(400):
        sketch = CountSketch(6, 8)
        a, b = sketch(torch.stack((x, y)))
        products.append(float(a @ b))
    error = torch.tensor(products).std() / len(products) ** 0.5
    assert abs(sum(products) / len(products) - float(x @ y)) < 4 * error


def test_places_and_signs_are_saved_not_trained() -> None:
    fusion = MCB(DIMS, width=4, sketch=16)
    assert {"sketches.0.places", "sketches.2.signs"} < set(fusion.state_dict())
    assert {name for name, _ in fusion.named_parameters()} == {"out.weight", "out.bias"}


def test_options_are_checked() -> None:
    for option in ({"sketch": 0}, {"input_norm": "batch"}):
        with pytest.raises(UsageError, match=next(iter(option))):
            MCB(DIMS, **option)
