"""`q-former` against its equations, one sample at a time without padding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.fusion.contract import make_batch
from tests.fusion.test_blocks import attend, given
from umecache.errors import UsageError
from umecache.fusion.q_former import QFormer

DIMS = {"image": 7, "text": 5, "audio": 3}
LENGTHS = [{"text": 3, "image": 4, "audio": 2}, {"text": 1, "image": 2, "audio": 0}]


@pytest.mark.parametrize("layers", [1, 3])
def test_is_the_equation(layers: int) -> None:
    """The question goes through every layer here; what the last one makes of it is not looked at."""
    fusion = QFormer(DIMS, width=8, queries=3, layers=layers, heads=2, input_norm="none").eval()
    batch = make_batch(DIMS, LENGTHS)
    maps = dict(zip(DIMS, fusion.project.maps, strict=True))

    def added(norm, z, more):
        return F.layer_norm(z + more, (8,), norm.weight, norm.bias)

    def fed(feed, z):
        return F.gelu(z @ feed.up.weight.T + feed.up.bias) @ feed.down.weight.T + feed.down.bias

    told = fusion.attention_weights(batch)
    for b, lengths in enumerate(LENGTHS):
        looked_text, looked_rest = torch.zeros(lengths["text"]), torch.zeros(lengths["image"] + lengths["audio"])
        tokens = {name: maps[name](batch[name][0][b, : lengths[name]]) for name in DIMS}
        q, t, y = fusion.queries_SK, tokens["text"], torch.cat((tokens["image"], tokens["audio"]))
        for number, layer in enumerate(fusion.layers):
            both = torch.cat((q, t))
            looked_text += given(layer.together, q, both)[3:]
            both = added(layer.norm_together, both, attend(layer.together, both, both))
            q, t = both[:3], both[3:]
            looked_rest += given(layer.to_image, q, y)
            q = added(layer.norm_image, q, attend(layer.to_image, q, y))
            q = added(layer.norm_query, q, fed(layer.feed_query, q))
            if number < layers - 1:
                t = added(layer.norm_text, t, fed(layer.feed_text, t))
        torch.testing.assert_close(fusion(batch)[b], q.mean(0), rtol=1e-4, atol=1e-5)
        found = torch.cat([told[name][b, : lengths[name]] for name in ("text", "image", "audio")])
        fell = torch.cat((looked_text, looked_rest))
        torch.testing.assert_close(found, fell / fell.sum(), rtol=1e-4, atol=1e-6)


def test_options_are_checked() -> None:
    for option in ({"layers": 0}, {"heads": 3}, {"expand": 0}, {"queries": 0}):
        with pytest.raises(UsageError, match=next(iter(option))):
            QFormer(DIMS, width=8, **option)
