"""`perceiver` against its equations, one sample at a time without padding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.fusion.contract import make_batch
from tests.fusion.test_blocks import attend, given
from umecache.errors import UsageError
from umecache.fusion.perceiver import Perceiver

DIMS = {"text": 5, "image": 7}
LENGTHS = [{"text": 3, "image": 4}, {"text": 1, "image": 2}]


def test_is_the_equation() -> None:
    fusion = Perceiver(DIMS, width=8, latents=3, layers=2, heads=2, input_norm="none").eval()
    batch = make_batch(DIMS, LENGTHS)

    def norm(layer, z):
        return F.layer_norm(z, (8,), layer.weight, layer.bias)

    def block(layer, z, seen):
        z = z + attend(layer.attend, norm(layer.norm_attend, z), seen)
        hidden = F.gelu(norm(layer.norm_feed, z) @ layer.feed.up.weight.T + layer.feed.up.bias)
        return z + hidden @ layer.feed.down.weight.T + layer.feed.down.bias

    told = fusion.attention_weights(batch)
    for b, lengths in enumerate(LENGTHS):
        looked = torch.zeros(sum(lengths.values()))
        x = torch.cat(
            [linear(batch[name][0][b, : lengths[name]]) for name, linear in zip(DIMS, fusion.project.maps, strict=True)]
        )
        z = fusion.latents_SK
        for read, think in zip(fusion.read, fusion.think, strict=True):
            looked += given(read.attend, norm(read.norm_attend, z), norm(read.norm_seen, x)) / 2
            z = block(read, z, norm(read.norm_seen, x))
            z = block(think, z, norm(think.norm_attend, z))
        torch.testing.assert_close(fusion(batch)[b], z.mean(0), rtol=1e-4, atol=1e-5)
        found = torch.cat([told[name][b, : lengths[name]] for name in DIMS])
        torch.testing.assert_close(found, looked, rtol=1e-4, atol=1e-6)


def test_options_are_checked() -> None:
    for option in ({"layers": 0}, {"heads": 3}, {"expand": 0}, {"latents": 0}):
        with pytest.raises(UsageError, match=next(iter(option))):
            Perceiver(DIMS, width=8, **option)
