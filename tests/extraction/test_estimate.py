"""The plan of an extraction against the extraction itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.encoders.broken_images import photo
from tests.extraction.conftest import MakeData
from umecache.data.sample import write_sample
from umecache.errors import UsageError
from umecache.extraction import estimate as estimate_module
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.estimate import Bin, break_even, estimate
from umecache.extraction.extract import extract
from umecache.stores import StoreWriteFailed


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sample"
    write_sample(folder, images=100, seed=0)
    return folder


def _config(data: Path, **changes: Any) -> ExtractConfig:
    models = tuple(ModelRequest(name=name, layers=("last", "-3")) for name in ("sample-text", "sample-image"))
    return ExtractConfig(**{"models": models, "data": str(data), "device": "cpu", "workers": 1, **changes})


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_items_tokens_and_bytes_are_those_of_the_stores(data: Path, dtype: str) -> None:
    planned = estimate(_config(data, dtype=dtype))
    stores = extract(_config(data, dtype=dtype))
    for model in planned["models"]:
        mine = [s for s in stores if s.model == model["model"]]
        assert model["tokens"] == sum(s.tokens for s in mine)
        assert model["items"] == sum(s.encoded for s in mine) / 2, "two layers, each record encoded for both at once"
        assert model["bytes"] <= sum(s.bytes for s in mine)
        assert set(model["bytes_by_layer"]) == {"last", "-2", "-3"}
    assert planned["bytes"] == sum(s.tokens * s.dim * (2 if dtype == "float16" else 1) for s in stores) + (
        0 if dtype == "float16" else 4 * sum(s.tokens for s in stores)
    )
    assert planned["fits"]
    assert planned["seconds"] > 0
    assert planned["peak_memory_bytes"] > 10**7


def test_half_the_data_takes_half_the_time_and_no_more(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        estimate_module,
        "_probe",
        lambda *_: estimate_module.Probe(items=10, tokens=100, seconds=2.0, peak_memory_bytes=1),
    )
    planned = estimate(_config(data))
    text, image = planned["models"]
    assert image["seconds"] == pytest.approx(0.2 * image["items"])
    assert text["seconds"] == pytest.approx(0.02 * text["tokens"] / 2)
    questions = text["splits"]["train"]["asked"]
    assert image["in_loop_seconds"] == pytest.approx(0.2 * questions), "an image per question, in every epoch"


@pytest.mark.parametrize(
    ("extract_seconds", "in_loop", "read", "epochs", "runs"),
    [(100, 10, 0, 10, 1), (1000, 10, 0, 10, 10), (101, 10, 0, 10, 2), (1, 1, 1, 10, None), (1, 1, 2, 10, None)],
)
def test_break_even(extract_seconds: float, in_loop: float, read: float, epochs: int, runs: int | None) -> None:
    assert break_even(extract_seconds, in_loop, read, epochs) == runs


def test_images_that_are_absent_or_broken_do_not_stop_a_plan(make_data: MakeData) -> None:
    folder = make_data({"a.jpg": b"missing", "b.jpg": b"no image", "c.jpg": photo()})
    config = _config(folder, models=(ModelRequest(name="sample-image"),))
    assert estimate(config)["items"] == 2, "only reading tells that one of them is broken"


def test_nothing_to_read(make_data: MakeData) -> None:
    folder = make_data({"a.jpg": b"missing"})
    with pytest.raises(UsageError, match="no input that sample-image can read"):
        estimate(_config(folder, models=(ModelRequest(name="sample-image"),)))


def test_the_bin_refuses_what_a_store_would() -> None:
    import numpy as np

    with pytest.raises(StoreWriteFailed, match="float16"):
        Bin([0], "float16").write(0, np.full((1, 2), 1e5, np.float32))
