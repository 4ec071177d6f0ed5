"""`attention` against its equation."""

from __future__ import annotations

import pytest
import torch

from tests.fusion import reference
from tests.fusion.contract import make_batch
from umecache.fusion.attention import Attention

DIMS = {"text": 5, "image": 7}


def test_is_the_equation() -> None:
    fusion = Attention(DIMS, width=6, input_norm="none").eval()
    batch = make_batch(DIMS, [{"text": 3, "image": 4}, {"text": 1, "image": 2}])
    f_BD = fusion(batch)
    attend = fusion.attend
    q, k, v = ((layer.weight, layer.bias) for layer in (attend.query, attend.key, attend.value))
    for sample in range(2):
        parts = [
            tokens[sample][mask[sample]] @ linear.weight.T + linear.bias
            for (tokens, mask), linear in zip(batch.values(), fusion.project.maps, strict=True)
        ]
        x_ND = torch.cat(parts)
        z_ND = reference.attention(x_ND, [True] * len(x_ND), q, k, v)
        torch.testing.assert_close(f_BD[sample], z_ND.mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("residual", [False, True])
def test_order_of_tokens_does_not_matter(residual: bool) -> None:
    """Positions come from the encoders; the fusion adds none."""
    fusion = Attention(DIMS, width=6, residual=residual).eval()
    batch = make_batch(DIMS, [{"text": 5, "image": 9}])
    shuffled = {name: (tokens[:, torch.randperm(tokens.shape[1])], mask) for name, (tokens, mask) in batch.items()}
    torch.testing.assert_close(fusion(shuffled), fusion(batch), rtol=1e-5, atol=1e-6)
