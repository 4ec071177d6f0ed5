"""Every registered method, and one of a user's own, passes the conformance suite."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from tests.fusion.contract import FusionContract, Make, make_batch, pick
from umecache.fusion.base import SharedFeatures, once
from umecache.fusion.registry import METHODS, build_fusion


class TestRegistered(FusionContract):
    @pytest.fixture(params=sorted(METHODS))
    def make(self, request: pytest.FixtureRequest) -> Make:
        return partial(build_fusion, request.param)


VARIANTS = [
    ("attention", {"heads": 4, "residual": True}),
    ("attention", {"input_norm": "none"}),
    ("evc", {"pairs": "all", "activation": "tanh2", "residual": True}),
    ("evc", {"pairs": "cross", "input_norm": "none"}),
    ("ume", {"pairs": "cross"}),
    ("ume", {"pairs": "all", "aws_logit": "linear", "heads": 2}),
    ("ume-res", {"aws_logit": "linear", "activation": "tanh2"}),
    ("concat", {"input_norm": "none"}),
]


class TestOptions(FusionContract):
    @pytest.fixture(params=VARIANTS, ids=lambda v: f"{v[0]}-{'-'.join(map(str, v[1].values()))}")
    def make(self, request: pytest.FixtureRequest) -> Make:
        name, options = request.param
        return partial(build_fusion, name, **options)


class TestOwn(FusionContract):
    """The method that docs/methods.md shows how to write, from the page itself."""

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
        code = page.split("```python\n", 1)[1].split("```", 1)[0]
        assert "class Mine(Fusion)" in code
        assert len(code.strip().splitlines()) <= 20, "in 20 lines"
        (tmp_path / "mine.py").write_text(code)
        return partial(build_fusion, f"{tmp_path / 'mine.py'}:Mine")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_learns_what_needs_both(name: str) -> None:
    """The answer is the exclusive or of a bit in the text and a bit in the image: to a control it is chance."""
    dims = {"text": 6, "image": 8}
    batch = make_batch(dims, [{"text": 3, "image": 4}] * 256, seed=1)
    bits_B2 = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).repeat(64, 1)  # no bit alone tells anything
    for modality, bit_B in zip(dims, bits_B2.T, strict=True):
        batch[modality][0][:, :, 0] = 2.0 * bit_B[:, None] - 1
        batch[modality][0][:, :, 1:] *= 0.3
    answer_B = bits_B2.sum(1) % 2
    train, held_out = pick(batch, list(range(128))), pick(batch, list(range(128, 256)))
    torch.manual_seed(0)
    fusion = build_fusion(name, dims, width=16)
    head = nn.Linear(fusion.out_dim, 2)
    optimizer = torch.optim.Adam([*fusion.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        F.cross_entropy(head(fusion(train)), answer_B[:128]).backward()
        optimizer.step()
    right = (head(fusion(held_out)).argmax(1) == answer_B[128:]).float().mean()
    assert (right < 0.7) if METHODS[name].control else (right > 0.95)


def test_shared_features_compute_once_what_heads_share() -> None:
    made: list[int] = []

    def make() -> torch.Tensor:
        made.append(1)
        return torch.ones(2)

    features = {"text": (torch.ones(1, 2, 3), torch.ones(1, 2, dtype=torch.bool))}
    shared = SharedFeatures(features)
    assert once(shared, ("mean", "text"), make) is once(shared, ("mean", "text"), make)
    assert once(features, ("mean", "text"), make) is not once(features, ("mean", "text"), make)
    once(shared, ("mean", "image"), make)
    assert len(made) == 4


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_head_answers_the_same_on_features_that_others_have_read(name: str) -> None:
    torch.manual_seed(0)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    features = {"text": (torch.randn(2, 3, 5), mask), "image": (torch.randn(2, 3, 7), mask)}
    dims = {"text": 5, "image": 7}
    shared = SharedFeatures(features)
    for _ in range(2):
        fusion = build_fusion(name, dims, width=8).eval()
        other = build_fusion(name, dims, width=8, **({"input_norm": "none"} if name == "concat" else {})).eval()
        for one in (fusion, other):
            assert torch.equal(one(shared), one(features))
