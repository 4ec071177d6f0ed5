"""What extract refuses before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from umecache.errors import UsageError
from umecache.extraction.config import ExtractConfig, ModelRequest

TEXT = ModelRequest(name="minilm")
IMAGE = ModelRequest(name="mobilenetv2")


def test_no_model() -> None:
    with pytest.raises(UsageError, match="No model"):
        ExtractConfig(models=())


def test_one_folder_for_two_models() -> None:
    with pytest.raises(UsageError, match="--store names one model"):
        ExtractConfig(models=(TEXT, IMAGE), store=Path("x"))
    assert ExtractConfig(models=(TEXT,), store=Path("x")).store == Path("x")


@pytest.mark.parametrize("name", ["batch_size", "shard_records", "limit", "workers"])
def test_counts_start_at_one(name: str) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}"):
        ExtractConfig(models=(TEXT,), **{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", [("-1", "-4"), ("all",)])
def test_several_layers_are_several_stores(layers: tuple[str, ...]) -> None:
    model = ModelRequest(name="minilm", layers=layers)
    assert model.wanted == layers
    assert TEXT.wanted == ("last",)
    with pytest.raises(UsageError, match="several layers"):
        ExtractConfig(models=(model,), store=Path("x"))
    with pytest.raises(UsageError, match="--compile"):
        ExtractConfig(models=(model,), compile=True)
