"""`gmu` against its equations, for two modalities and for more."""

from __future__ import annotations

import torch

from tests.fusion.contract import make_batch
from umecache.fusion.gmu import GMU

LENGTHS = [{"text": 3, "image": 4, "audio": 2}, {"text": 1, "image": 2, "audio": 1}]


def test_two_share_one_gate() -> None:
    dims, width = {"text": 5, "image": 7}, 4
    fusion = GMU(dims, width=width, input_norm="none").eval()
    batch = make_batch(dims, LENGTHS)
    for b, lengths in enumerate(LENGTHS):
        maps = [
            linear(batch[name][0][b, : lengths[name]].mean(0))
            for name, linear in zip(dims, fusion.project.maps, strict=True)
        ]
        h = [torch.tanh(m[:width]) for m in maps]
        z = 1 / (1 + torch.exp(-(maps[0][width:] + maps[1][width:])))
        torch.testing.assert_close(fusion(batch)[b], z * h[0] + (1 - z) * h[1], rtol=1e-5, atol=1e-6)


def test_more_have_a_gate_each() -> None:
    dims, width = {"text": 5, "image": 7, "audio": 3}, 4
    fusion = GMU(dims, width=width, input_norm="none").eval()
    batch = make_batch(dims, LENGTHS)
    for b, lengths in enumerate(LENGTHS):
        x = [batch[name][0][b, : lengths[name]].mean(0) for name in dims]
        weights = [linear.weight for linear in fusion.project.maps]
        bias = sum(linear.bias for linear in fusion.project.maps)
        f = torch.zeros(width)
        for m in range(3):
            own = slice((m + 1) * width, (m + 2) * width)
            z = torch.sigmoid(torch.cat([w[own] for w in weights], 1) @ torch.cat(x) + bias[own])
            f = f + z * torch.tanh(weights[m][:width] @ x[m] + fusion.project.maps[m].bias[:width])
        torch.testing.assert_close(fusion(batch)[b], f, rtol=1e-5, atol=1e-6)
