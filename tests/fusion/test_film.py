"""`film` against its equations, token by token."""

from __future__ import annotations

import pytest
import torch

from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.film import FiLM

DIMS = {"image": 7, "text": 5, "audio": 3}
LENGTHS = [{"text": 3, "image": 4, "audio": 2}, {"text": 1, "image": 2, "audio": 0}]


def test_is_the_equation() -> None:
    width, layers = 4, 3
    fusion = FiLM(DIMS, width=width, layers=layers, input_norm="none").eval()
    batch = make_batch(DIMS, LENGTHS)
    maps = dict(zip(DIMS, fusion.project.maps, strict=True))
    for b, lengths in enumerate(LENGTHS):
        p = torch.stack([maps["text"](token) for token in batch["text"][0][b, : lengths["text"]]]).mean(0)
        modulation = (fusion.modulate.weight @ p + fusion.modulate.bias).view(layers, 2, width)
        scores = []
        for name in ("image", "audio"):
            for token in batch[name][0][b, : lengths[name]]:
                y = maps[name](token)
                for block, (g, shift) in zip(fusion.blocks, modulation, strict=True):
                    h = torch.relu(block.first(y))
                    z = block.second(h)
                    z = (z - z.mean()) / (z.var(unbiased=False) + 1e-5).sqrt()
                    y = h + torch.relu((1 + g) * z + shift)
                scores.append(fusion.out(y))
        torch.testing.assert_close(fusion(batch)[b], torch.stack(scores).amax(0), rtol=1e-4, atol=1e-5)


def test_nothing_to_modulate_gives_zero() -> None:
    fusion = FiLM(DIMS, width=4).eval()
    for image in (0, 2):
        batch = make_batch(DIMS, [{"text": 3, "image": 0, "audio": 0}, {"text": 3, "image": image, "audio": 0}])
        assert (fusion(batch)[0] == 0).all()


def test_layers_are_checked() -> None:
    with pytest.raises(UsageError, match="layers"):
        FiLM(DIMS, layers=0)
