"""How many records a batch holds: who decides, and the search on a device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from umecache.encoders.base import Encoder
from umecache.encoders.registry import load_encoder
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.sizing import BATCH_SIZES, batch_size, grow, seconds_of, usual_size
from umecache.extraction.tuning import store_origin
from umecache.stores import open_writer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def image() -> Encoder:
    return load_encoder("sample-image")


def _config(**changes: Any) -> ExtractConfig:
    return ExtractConfig(models=(ModelRequest(name="sample-image"),), **changes)


def test_what_is_asked_wins_then_what_the_store_was_begun_with(image: Encoder, tmp_path: Path) -> None:
    facts = {"recipe": {}, "origin": store_origin(image, {}, {}, 5)}
    open_writer(tmp_path / "s", manifest=facts, ids=[1], digests=["0" * 64], lengths=[1], dim=4)
    assert batch_size(_config(batch_size=3), 16, tmp_path / "s") == 3
    assert batch_size(_config(), 16, tmp_path / "s") == 5
    assert batch_size(_config(), 16, tmp_path / "none") == 16


def test_on_a_cpu_it_is_that_of_the_modality(image: Encoder) -> None:
    assert usual_size(_config(), [image], CPU) == BATCH_SIZES["cpu", "image"]
    assert usual_size(_config(batch_size=2), [image], CPU) == 2


def model(
    overhead: float, fits: int = 10**9, error: type[Exception] = torch.OutOfMemoryError
) -> Callable[[int], float]:
    """A device that takes `overhead` for any batch, and one unit per record."""

    def seconds(size: int) -> float:
        if size > fits:
            raise error("CUDA out of memory")
        return overhead + size

    return seconds


@pytest.mark.parametrize(
    ("overhead", "found"),
    [
        (0, 8),  # busy from the start: twice as much is not faster
        (16, 256),  # (16 + 256) / 256 to (16 + 512) / 512 is 1.03
        (1e9, 1024),  # waits for its launches: as large as allowed
    ],
)
def test_it_grows_while_that_pays(overhead: float, found: int) -> None:
    assert grow(model(overhead), 8, 1024) == found


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_it_stops_where_memory_ends(error: type[Exception]) -> None:
    assert grow(model(1e9, fits=100, error=error), 8, 1024) == 64
    assert grow(model(1e9, fits=4, error=error), 8, 1024) == 8, "the encoder halves it then"


def test_other_errors_are_told() -> None:
    def broken(size: int) -> float:
        raise RuntimeError("a device-side assertion")

    with pytest.raises(RuntimeError, match="device-side"):
        grow(broken, 8, 64)


def test_a_batch_is_timed_through_all_its_layers(image: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    plain = image.encode_layers
    monkeypatch.setattr(image, "encode_layers", lambda batch, views: seen.append(len(views)) or plain(batch, views))
    assert seconds_of([image, image.at("-2")], 3, CPU, "float32") > 0
    assert set(seen) == {2}
