"""Options that say which encoders, at which layers."""

from __future__ import annotations

from typing import Any

import pytest

from umecache.cli.encoding import batch_size_of, check_choices, layers_of, model_requests
from umecache.errors import UsageError

NOTHING: dict[str, Any] = dict.fromkeys(("weights", "model_arg", "image_size", "mean", "std", "max_length"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("last", ("last",)), ("-1,-4", ("-1", "-4")), (" -2, -2 ", ("-2",)), ("all", ("all",)), ("last,-12", ("last", "-12"))],
)
def test_layers(text: str, expected: tuple[str, ...]) -> None:
    assert layers_of(text) == expected


@pytest.mark.parametrize("text", ["", "first", "1", "-0", "all,-1", "-1,,-2", "--1"])
def test_layers_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--layers"):
        layers_of(text)


def test_batch_sizes() -> None:
    assert (batch_size_of("auto"), batch_size_of("8")) == (None, 8)
    with pytest.raises(UsageError, match="--batch-size"):
        batch_size_of("many")


def test_choices() -> None:
    check_choices(store_format="hdf5", dtype="int8", precision="bfloat16")
    with pytest.raises(UsageError, match="--dtype 'int4'"):
        check_choices(store_format="zarr", dtype="int4", precision="float32")


def test_requests_of_several_models() -> None:
    said: dict[str, Any] = {**NOTHING, "weights": ["vit=random"], "model_arg": ["vit:depth=2", "x=1"], "mean": "0.5"}
    bert, vit = model_requests(["bert", "vit"], layers="-1,-4", crop=True, **said)
    assert (bert.name, bert.options.weights, bert.options.model_args) == ("bert", None, {"x": 1})
    assert (vit.name, vit.options.weights, vit.options.model_args) == ("vit", "random", {"depth": 2, "x": 1})
    assert vit.wanted == ("-1", "-4")
    assert vit.options.mean == (0.5, 0.5, 0.5)
    (all_of_it,) = model_requests(["vit"], layers="all", crop=False, **NOTHING)
    assert (all_of_it.wanted, all_of_it.options.layers) == (("all",), "last")
