"""Every registered method, and one of a user's own, passes the conformance suite."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from tests.fusion.contract import Declared, FusionContract, Make
from umecache.fusion.base import SharedFeatures, once
from umecache.fusion.cost import figures
from umecache.fusion.registry import METHODS, build_fusion

ORDERED = {"evc", "ume", "ume-res", "lstm-q-norm-i", "simple-pair", "uat"}
"""Methods that look at the order of tokens, with their default options."""
ADDITIVE = {"late-mean", "late-weighted"}


class Named(FusionContract):
    """A registered method by name, with options: what the registry says about it is held against it."""

    @pytest.fixture
    def named(self) -> tuple[str, dict[str, object]]:
        raise NotImplementedError

    @pytest.fixture
    def make(self, named: tuple[str, dict[str, object]]) -> Make:
        name, options = named
        return partial(build_fusion, name, **options)

    @pytest.fixture
    def limit(self, named: tuple[str, dict[str, object]]) -> str | None:
        name, _ = named
        return "control" if METHODS[name].control else "additive" if name in ADDITIVE else None

    @pytest.fixture
    def ordered(self, named: tuple[str, dict[str, object]]) -> bool:
        name, options = named
        return name in ORDERED and options.get("pairs", "upper") == "upper" and options.get("text_state") != "mean"

    @pytest.fixture
    def declared(self, named: tuple[str, dict[str, object]]) -> Declared | None:
        name, options = named
        if any(isinstance(value, str) and option != "pairs" for option, value in options.items()):
            return None  # costs are declared for the defaults of options that are words
        return lambda dims, tokens, width: figures(name, dims, tokens, width=width, **options)


class TestRegistered(Named):
    @pytest.fixture(params=METHODS)
    def named(self, request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
        return request.param, {}


VARIANTS = [
    ("attention", {"heads": 4, "residual": True}),
    ("attention", {"input_norm": "none", "residual": True}),
    ("evc", {"pairs": "all", "activation": "tanh2", "residual": True}),
    ("evc", {"pairs": "cross", "input_norm": "none"}),
    ("ume", {"pairs": "cross"}),
    ("ume", {"pairs": "all", "aws_logit": "linear", "heads": 2}),
    ("ume-res", {"aws_logit": "linear", "activation": "tanh2"}),
    ("concat", {"input_norm": "none"}),
    ("lstm-q-norm-i", {"text_state": "mean"}),
    ("simple-pair", {"pairs": "cross", "residual": True}),
    ("mcan", {"layers": 2, "heads": 2, "expand": 1}),
    ("mbt", {"layers": 3, "bottlenecks": 2}),
    ("mfh", {"order": 4, "factors": 2}),
    ("q-former", {"queries": 4, "layers": 1}),
    ("perceiver", {"latents": 4, "layers": 2}),
]


class TestOptions(Named):
    @pytest.fixture(params=VARIANTS, ids=lambda v: f"{v[0]}-{'-'.join(map(str, v[1].values()))}")
    def named(self, request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
        return request.param


class TestOwn(FusionContract):
    """The method that docs/own-method.md shows how to write, from the page itself."""

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        page = (Path(__file__).parents[2] / "docs" / "own-method.md").read_text(encoding="utf-8")
        code = page.split("```python\n", 1)[1].split("```", 1)[0]
        assert "class Mine(Fusion)" in code
        assert len(code.strip().splitlines()) <= 20, "in 20 lines"
        (tmp_path / "mine.py").write_text(code)
        return partial(build_fusion, f"{tmp_path / 'mine.py'}:Mine")


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
