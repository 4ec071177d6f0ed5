"""Options that say which encoders, at which layers."""

from __future__ import annotations

from pathlib import Path

import pytest

from umecache.cli.encoding import batch_size_of, config_of
from umecache.errors import UsageError


def test_batch_sizes() -> None:
    assert (batch_size_of("auto"), batch_size_of("8")) == (None, 8)
    with pytest.raises(UsageError, match="--batch-size"):
        batch_size_of("many")


def test_requests_of_several_models() -> None:
    said = ["vit:depth=2", "x=1", "bert:y=[1]"]
    config = config_of(
        ["bert", "vit"], weights=["vit=random"], model_arg=said, mean="0.5", layers="-1,-4", crop=True, split="a,b"
    )
    bert, vit = config.models
    assert (bert.name, bert.options.weights, bert.options.model_args) == ("bert", None, {"x": 1, "y": [1]})
    assert (vit.name, vit.options.weights, vit.options.model_args) == ("vit", "random", {"x": 1, "depth": 2})
    assert vit.wanted == ("-1", "-4")
    assert (vit.options.mean, vit.options.std, vit.options.crop) == ((0.5, 0.5, 0.5), None, True)
    assert config.splits == ("a", "b")


def test_one_model_twice_with_other_weights() -> None:
    one, two = config_of(["vit", "vit"], weights=["a", "b"], layers="all").models
    assert (one.options.weights, two.options.weights) == ("a", "b")
    assert (one.wanted, one.options.layers) == (("all",), "last")


def test_the_encoders_of_a_recipe(tmp_path: Path) -> None:
    config = config_of(None, recipe="thesis-b")
    assert [model.name for model in config.models] == ["bert", "roberta", "deberta-v3", "vit", "beit"]
    assert {model.options.image_size for model in config.models} == {384}
    (only,) = config_of(["vit"], recipe="thesis-b", image_size=224).models
    assert (only.name, only.options.image_size) == ("vit", 224)
    (tmp_path / "mine.toml").write_text("[settings]\nepochs = 3\n")
    with pytest.raises(UsageError, match="names no encoders"):
        config_of(None, recipe=str(tmp_path / "mine.toml"))
    with pytest.raises(UsageError, match="Neither --model nor --recipe"):
        config_of(None)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [({"layers": "first"}, "--layers"), ({"mean": "1,2"}, "--mean"), ({"dtype": "int4"}, "--dtype 'int4'")],
)
def test_options_that_cannot_be_read(said: dict[str, str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        config_of(["vit"], **said)  # type: ignore[arg-type]
