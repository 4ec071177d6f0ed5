"""`mbt` against its equations, and its bottleneck: what passes between modalities passes through it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.fusion.contract import make_batch
from tests.fusion.test_blocks import attend, given
from umecache.errors import UsageError
from umecache.fusion.mbt import MBT

DIMS = {"text": 5, "image": 7, "audio": 3}
LENGTHS = [{"text": 3, "image": 4, "audio": 2}, {"text": 1, "image": 2, "audio": 3}]


def normed(norm, z):
    return F.layer_norm(z, z.shape[-1:]) * norm.weight + norm.bias


def test_is_the_equation() -> None:
    fusion = MBT(DIMS, width=8, layers=3, bottlenecks=2, heads=2, input_norm="none").eval()
    batch = make_batch(DIMS, LENGTHS)
    f_BK = fusion(batch)
    told = fusion.attention_weights(batch)
    for b, lengths in enumerate(LENGTHS):
        looked = [torch.zeros(lengths[name]) for name in DIMS]
        z = [
            torch.cat((fusion.cls_M1K[m], linear(batch[name][0][b, : lengths[name]])))
            for m, (name, linear) in enumerate(zip(DIMS, fusion.project.maps, strict=True))
        ]
        shared = fusion.bottleneck_SK
        for stack in fusion.stacks:
            written = []
            for m, block in enumerate(stack):
                both = torch.cat((z[m], shared))
                seen = normed(block.norm_attend, both)
                looked[m] += given(block.attend, seen, seen)[1:-2]
                both = both + attend(block.attend, seen, seen)
                hidden = F.gelu(normed(block.norm_feed, both) @ block.feed.up.weight.T + block.feed.up.bias)
                both = both + hidden @ block.feed.down.weight.T + block.feed.down.bias
                z[m] = both[:-2]
                written.append(both[-2:])
            shared = sum(written) / 3
        expected = sum(normed(fusion.norm, tokens[0]) for tokens in z) / 3
        torch.testing.assert_close(f_BK[b], expected, rtol=1e-4, atol=1e-5)
        whole = sum(fell.sum() for fell in looked)
        for name, fell in zip(DIMS, looked, strict=True):
            torch.testing.assert_close(told[name][b, : lengths[name]], fell / whole, rtol=1e-4, atol=1e-6)


def test_modalities_meet_in_the_bottleneck_only() -> None:
    """With what each modality writes cut off from the shared tokens' first layer, nothing passes."""
    dims = {"text": 5, "image": 7}
    fusion = MBT(dims, width=8, heads=2).eval()
    image = make_batch(dims, [{"text": 3, "image": 4}])["image"]
    seen: list[torch.Tensor] = []
    fusion.stacks[1][1].register_forward_hook(lambda block, given, out: seen.append(given[0]))
    for seed in (1, 2):
        fusion({"text": make_batch(dims, [{"text": 3, "image": 4}], seed=seed)["text"], "image": image})
    assert torch.equal(seen[0][:, :5], seen[1][:, :5]), "CLS and image tokens know nothing of the text after one layer"
    assert not torch.allclose(seen[0][:, 5:], seen[1][:, 5:]), "the shared tokens do"


def test_options_are_checked() -> None:
    for option in ({"layers": 1}, {"heads": 3}, {"expand": 0}, {"bottlenecks": 0}):
        with pytest.raises(UsageError, match=next(iter(option))):
            MBT(DIMS, width=8, **option)
