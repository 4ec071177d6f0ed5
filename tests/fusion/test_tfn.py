"""`tfn` against its outer product, number by number."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.tfn import TFN

DIMS = {"text": 5, "image": 7, "audio": 3}
LENGTHS = [{"text": 3, "image": 4, "audio": 2}, {"text": 1, "image": 2, "audio": 1}]


@pytest.mark.parametrize("names", [("text", "image"), ("text", "image", "audio")])
def test_is_the_equation(names: tuple[str, ...]) -> None:
    dims = {name: DIMS[name] for name in names}
    fusion = TFN(dims, width=4, inner=2, input_norm="none").eval()
    batch = make_batch(dims, LENGTHS)
    for b, lengths in enumerate(LENGTHS):
        p = [
            [*linear(batch[name][0][b, : lengths[name]].mean(0)), torch.ones(())]
            for name, linear in zip(dims, fusion.project.maps, strict=True)
        ]
        if len(p) == 2:
            z = [x * y for x in p[0] for y in p[1]]
        else:
            z = [x * y * w for x in p[0] for y in p[1] for w in p[2]]
        assert len(z) == 3 ** len(dims)
        linear = fusion.hidden.linear
        torch.testing.assert_close(
            fusion(batch)[b], F.gelu(linear.weight @ torch.stack(z) + linear.bias), rtol=1e-5, atol=1e-6
        )


def test_two_or_three_modalities() -> None:
    with pytest.raises(UsageError, match="2 to 3 modalities"):
        TFN({**DIMS, "touch": 2})
    with pytest.raises(UsageError, match="inner"):
        TFN(DIMS, inner=0)
