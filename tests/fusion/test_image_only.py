"""`image-only` looks at nothing else."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.image_only import ImageOnly

DIMS = {"text": 5, "image": 7}


def test_is_the_equation_and_deaf_to_the_question() -> None:
    fusion = ImageOnly(DIMS, width=6, input_norm="none").eval()
    batch = make_batch(DIMS, [{"text": 3, "image": 4}, {"text": 2, "image": 1}])
    tokens, mask = batch["image"]
    mean_BD = torch.stack([tokens[b][mask[b]].mean(0) for b in range(2)])
    p_BK = mean_BD @ fusion.project.maps[0].weight.T + fusion.project.maps[0].bias
    expected = F.gelu(p_BK @ fusion.hidden.linear.weight.T + fusion.hidden.linear.bias)
    torch.testing.assert_close(fusion(batch), expected, rtol=1e-5, atol=1e-6)
    deaf = {**batch, "text": (torch.randn_like(batch["text"][0]), batch["text"][1])}
    assert torch.equal(fusion(deaf), fusion(batch))


def test_needs_an_image() -> None:
    with pytest.raises(UsageError, match="'image'"):
        ImageOnly({"text": 5})
