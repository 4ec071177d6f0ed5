"""`text-only` looks at nothing else."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.text_only import TextOnly

DIMS = {"image": 7, "text": 5}


def test_is_the_equation_and_blind_to_the_image() -> None:
    fusion = TextOnly(DIMS, width=6, input_norm="none").eval()
    batch = make_batch(DIMS, [{"text": 3, "image": 4}, {"text": 2, "image": 4}])
    tokens, mask = batch["text"]
    mean_BD = torch.stack([tokens[b][mask[b]].mean(0) for b in range(2)])
    p_BK = mean_BD @ fusion.project.maps[0].weight.T + fusion.project.maps[0].bias
    expected = F.gelu(p_BK @ fusion.hidden.linear.weight.T + fusion.hidden.linear.bias)
    torch.testing.assert_close(fusion(batch), expected, rtol=1e-5, atol=1e-6)
    blind = {**batch, "image": (torch.randn_like(batch["image"][0]), ~batch["image"][1])}
    assert torch.equal(fusion(blind), fusion(batch))


def test_needs_text() -> None:
    with pytest.raises(UsageError, match="'text'") as caught:
        TextOnly({"image": 7, "audio": 3})
    assert "image, audio" in caught.value.why
