"""Option values."""

from __future__ import annotations

import pytest

from umecache.cli.parse import key_values, names, numbers, per_model, some_of
from umecache.errors import UnknownName, UsageError


def test_key_values_are_json_or_strings() -> None:
    found = key_values(
        ["depth=2", "pad_type=same", "flag=true", "sizes=[1, 2]", "eq=a=b", "empty="], flag="--model-arg"
    )
    assert found == {"depth": 2, "pad_type": "same", "flag": True, "sizes": [1, 2], "eq": "a=b", "empty": ""}
    assert key_values(None, flag="--model-arg") == {}


@pytest.mark.parametrize("pair", ["depth", "=2", ""])
def test_key_values_without_a_key_are_refused(pair: str) -> None:
    with pytest.raises(UsageError, match="KEY=VALUE"):
        key_values([pair], flag="--model-arg")


def test_names() -> None:
    assert names("train, val,", flag="--split") == ("train", "val")
    assert names(None, flag="--split") is None
    with pytest.raises(UsageError, match="names nothing"):
        names(" , ", flag="--split")


def test_numbers_are_one_or_three() -> None:
    assert numbers("0.5", flag="--mean") == (0.5, 0.5, 0.5)
    assert numbers("0.4,0.5,0.6", flag="--mean") == (0.4, 0.5, 0.6)
    assert numbers(None, flag="--mean") is None
    for wrong in ("a", "1,2", ""):
        with pytest.raises(UsageError, match="--mean"):
            numbers(wrong, flag="--mean")


def test_per_model() -> None:
    models = ["minilm", "mobilenetv2"]
    assert per_model(None, models, flag="--weights") == (None, None)
    assert per_model(["random"], models, flag="--weights") == ("random", "random")
    assert per_model(["a", "b"], models, flag="--weights") == ("a", "b")
    assert per_model(["mobilenetv2=b"], models, flag="--weights") == (None, "b")
    assert per_model(["mobilenetv2=b", "minilm=a"], models, flag="--weights") == ("a", "b")
    with pytest.raises(UsageError, match="3 times for 2 models"):
        per_model(["a", "b", "c"], models, flag="--weights")


def test_some_of_a_registry() -> None:
    known = {"ume": 1, "evc": 2}
    assert some_of(known, None, kind="method", listing="umecache methods") == [1, 2]
    assert some_of(known, ["evc"], kind="method", listing="umecache methods") == [2]
    with pytest.raises(UnknownName, match="Did you mean 'ume'"):
        some_of(known, ["umme"], kind="method", listing="umecache methods")
