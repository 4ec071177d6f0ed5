"""Memory format, compilation."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from umecache.encoders.base import Encoder
from umecache.encoders.registry import load_encoder
from umecache.errors import UsageError
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.tuning import example, tune


@pytest.fixture(scope="module")
def image() -> Encoder:
    return load_encoder("sample-image")


def _config(**changes: Any) -> ExtractConfig:
    return ExtractConfig(models=(ModelRequest(name="sample-image"),), **changes)


def test_channels_last_changes_the_layout_not_the_values(image: Encoder) -> None:
    batch = image.collate([example(image)] * 2)
    with torch.inference_mode():
        before = image.encode(batch)
        assert tune(image, _config()) == {}
        assert tune(image, _config(channels_last=True)) == {"memory_format": "channels_last"}
        torch.testing.assert_close(
            image.encode(batch), before, rtol=1e-3, atol=1e-3
        )  # a flat picture: norms enlarge the rounding
    kernel = next(p for p in image.module.parameters() if p.ndim == 4)
    assert kernel.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["sample-image", "sample-text"])
def test_compiled_encoders_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_encoder(name)
    batch = encoder.collate([example(encoder)] * 2)
    with torch.inference_mode():
        before = encoder.encode(batch)
    plain = encoder.module.compile
    # Graph capture without a C++ compiler, which machines may lack.
    monkeypatch.setattr(encoder.module, "compile", lambda **how: plain(backend="eager", **how))
    assert tune(encoder, _config(compile=True)) == {"compiled": True}
    with torch.inference_mode():
        torch.testing.assert_close(encoder.encode(batch), before)


def test_a_compiler_that_does_not_work_is_said_in_words() -> None:
    encoder = load_encoder("sample-image")

    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    encoder.module.compile(backend=broken)
    encoder.module.compile = lambda **_: None  # type: ignore[method-assign]
    with pytest.raises(UsageError, match=r"torch\.compile does not work for sample-image") as caught:
        tune(encoder, _config(compile=True))
    assert "--compile" in caught.value.next
