"""`vilbert` against its equations, one sample at a time without padding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.fusion.contract import make_batch
from tests.fusion.test_blocks import attend, given
from umecache.errors import UsageError
from umecache.fusion.vilbert import ViLBERT

LENGTHS = [{"text": 3, "image": 4, "audio": 2}, {"text": 1, "image": 2, "audio": 3}]


@pytest.mark.parametrize("dims", [{"text": 5, "image": 7}, {"text": 5, "image": 7, "audio": 3}], ids=len)
def test_is_the_equation(dims: dict[str, int]) -> None:
    fusion = ViLBERT(dims, width=8, layers=2, heads=2, input_norm="none").eval()
    batch = make_batch(dims, LENGTHS)

    def trm(block, z, seen):
        first, second = block.norm_attend, block.norm_feed
        z = F.layer_norm(z + attend(block.attend, z, seen), (8,), first.weight, first.bias)
        hidden = F.gelu(z @ block.feed.up.weight.T + block.feed.up.bias)
        return F.layer_norm(
            z + hidden @ block.feed.down.weight.T + block.feed.down.bias, (8,), second.weight, second.bias
        )

    told = fusion.attention_weights(batch)
    for b, lengths in enumerate(LENGTHS):
        looked = [torch.zeros(lengths[name]) for name in dims]
        z = [linear(batch[name][0][b, : lengths[name]]) for name, linear in zip(dims, fusion.project.maps, strict=True)]
        for layer in range(2):
            across, within = fusion.layers[2 * layer], fusion.layers[2 * layer + 1]
            for m in range(len(z)):
                rest = [o for o in range(len(z)) if o != m]
                fell = given(across[m].attend, z[m], torch.cat([z[o] for o in rest]))
                for o, part in zip(rest, fell.split([len(z[o]) for o in rest]), strict=True):
                    looked[o] += part
            z = [trm(across[m], z[m], torch.cat([z[o] for o in range(len(z)) if o != m])) for m in range(len(z))]
            for m in range(len(z)):
                looked[m] += given(within[m].attend, z[m], z[m])
            z = [trm(within[m], z[m], z[m]) for m in range(len(z))]
        expected = torch.ones(8)
        for tokens in z:
            expected = expected * tokens.mean(0)
        torch.testing.assert_close(fusion(batch)[b], expected, rtol=1e-4, atol=1e-5)
        for name, fell in zip(dims, looked, strict=True):  # two layers, co- and self-attention, of every stream
            torch.testing.assert_close(told[name][b, : lengths[name]], fell / (4 * len(dims)), rtol=1e-4, atol=1e-6)


def test_options_are_checked() -> None:
    for option in ({"layers": 0}, {"heads": 3}, {"expand": 0}):
        with pytest.raises(UsageError, match=next(iter(option))):
            ViLBERT({"text": 5, "image": 7}, width=8, **option)
