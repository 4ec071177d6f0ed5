"""What `help()` shows of the calls."""

from __future__ import annotations

import inspect
from typing import Any, TypedDict

import pytest

import umecache
from umecache.api.settings import CompareSettings, ExtractSettings, FuseSettings
from umecache.api.signature import with_settings
from umecache.training.config import CompareConfig, FuseConfig


def test_defaults_are_those_of_the_configuration() -> None:
    shown = inspect.signature(umecache.fuse).parameters
    assert (shown["method"].default, shown["seeds"].default, shown["devices"].default) == ("ume", (0,), "auto")
    assert shown["recipe"].default is None and shown["method_args"].default == {}
    assert shown["seeds"].annotation == "int | Sequence[int] | None"
    assert inspect.signature(umecache.compare).parameters["methods"].default == CompareConfig().methods
    shown = inspect.signature(umecache.extract).parameters
    assert [shown[name].default for name in ("dtype", "layers", "crop")] == ["float16", "last", False]


@pytest.mark.parametrize(
    ("call", "settings", "own"),
    [
        (umecache.extract, ExtractSettings, {"model", "reporter"}),
        (umecache.fuse, FuseSettings, {"reporter"}),
        (umecache.compare, CompareSettings, {"baseline", "reporter"}),
    ],
)
def test_every_setting_is_shown(call: Any, settings: Any, own: set[str]) -> None:
    assert set(inspect.signature(call).parameters) == set(settings.__annotations__) | own


def test_the_function_stays_what_it_was() -> None:
    class Some(TypedDict, total=False):
        lr: float

    @with_settings(Some, FuseConfig)
    def call(first: int, **settings: Any) -> dict[str, Any]:
        """Says so."""
        return {"first": first, **settings}

    assert call(1, lr=2.0) == {"first": 1, "lr": 2.0}
    assert str(inspect.signature(call)).startswith("(first: 'int', *, lr: ")
    assert call.__doc__ == "Says so."
