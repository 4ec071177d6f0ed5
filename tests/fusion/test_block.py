"""`block` against its equation: one dense core per chunk, put together on the diagonal."""

from __future__ import annotations

import pytest
import torch

from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.block import BLOCK

DIMS = {"text": 5, "image": 7}
LENGTHS = [{"text": 3, "image": 4}, {"text": 1, "image": 2}]


@pytest.mark.parametrize("width", [6, 5])
def test_is_the_block_diagonal_product(width: int) -> None:
    """Width 5 does not divide into 3 chunks: projections are 6 wide, f is 5 wide."""
    chunks, rank, size = 3, 4, 2
    fusion = BLOCK(DIMS, width=width, chunks=chunks, rank=rank, input_norm="none").eval()
    batch = make_batch(DIMS, LENGTHS)
    f_BK = fusion(batch)
    assert f_BK.shape == (2, width)
    for b, lengths in enumerate(LENGTHS):
        q, v = (
            linear(batch[name][0][b, : lengths[name]].mean(0))
            for name, linear in zip(DIMS, fusion.project.maps, strict=True)
        )
        z = []
        for c in range(chunks):
            one = torch.ones(1)
            q_c, v_c = (torch.cat((x[size * c : size * c + size], one)) for x in (q, v))
            m, n = (torch.cat((maps.weight[c], maps.bias[c])) for maps in fusion.merge)  # [S + 1, R * S]
            core = torch.zeros(size + 1, size + 1, size)
            for k in range(size):
                for r in range(rank):
                    core[:, :, k] += torch.outer(m[:, size * r + k], n[:, size * r + k])
            z_c = torch.einsum("q,qvk,v->k", q_c, core, v_c)
            u = torch.where(z_c > 0, z_c.abs().sqrt(), -z_c.abs().sqrt())
            z.append(u / u.square().sum().sqrt())
        expected = fusion.out.weight @ torch.cat(z) + fusion.out.bias
        torch.testing.assert_close(f_BK[b], expected, rtol=1e-4, atol=1e-5)


def test_options_are_checked() -> None:
    for option in ({"chunks": 0}, {"rank": 1.5}):
        with pytest.raises(UsageError, match=next(iter(option))):
            BLOCK(DIMS, **option)
