"""An encoder made again from what a store declares, and what it is compared with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from umecache.data.dataset import open_dataset
from umecache.data.sample import write_sample
from umecache.encoders.base import EncoderOptions
from umecache.errors import UsageError
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.extract import extract
from umecache.extraction.reload import as_stored, declaration, encode_items, reload_encoder
from umecache.stores import open_store
from umecache.stores.errors import StoreMismatch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("data") / "sample", images=100, seed=0)


def store_of(data: Path, tmp_path: Path, model: str, *, dtype: str = "float16", **options: Any) -> Path:
    request = ModelRequest(name=model, options=EncoderOptions(**options))
    where = tmp_path / "store"
    config = ExtractConfig(
        models=(request,), data=str(data), splits=("val",), limit=8, store=where, dtype=dtype, device="cpu", workers=1
    )
    extract(config)
    return where / "val"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_what_it_encodes_is_what_the_store_holds(data: Path, tmp_path: Path, dtype: str) -> None:
    path = store_of(data, tmp_path, "sample-text", dtype=dtype, layers="-2")
    store, question = open_store(path), open_dataset(data).split("val").questions[0]
    declared = declaration(store)
    (record_TD,) = encode_items(reload_encoder(declared, store=path), declared, [question.text])
    held_TD = np.asarray(store[question.id], np.float32)
    # Batches of other lengths may round the last bit differently: one step of the stored type, not more.
    np.testing.assert_allclose(record_TD, held_TD, atol=np.abs(held_TD).max() / 100, rtol=0)
    assert np.mean(record_TD == held_TD) > 0.99


def test_images_with_another_size_and_random_weights(data: Path, tmp_path: Path) -> None:
    path = store_of(
        data, tmp_path, "timm:test_vit", weights="random", seed=3, image_size=64, mean=(0.4, 0.5, 0.6),
        model_args={"img_size": 64},
    )  # fmt: skip
    store, split = open_store(path), open_dataset(data).split("val", limit=8)
    declared = declaration(store)
    encoder = reload_encoder(declared)
    image = split.image_path(split.image_ids[0])
    assert image is not None
    (record_TD,) = encode_items(encoder, declared, [image.read_bytes()], device=torch.device("cpu"))
    np.testing.assert_allclose(record_TD, np.asarray(store[split.image_ids[0]], np.float32), atol=5e-3)


def test_weights_that_travel_in_the_store(data: Path, tmp_path: Path) -> None:
    path = store_of(data, tmp_path, "lstm", weights="random", max_length=5, model_args={"dim": 16})
    store, question = open_store(path), open_dataset(data).split("val").questions[1]
    declared = declaration(store)
    (record_TD,) = encode_items(reload_encoder(declared, store=path), declared, [question.text])
    np.testing.assert_allclose(record_TD, np.asarray(store[question.id], np.float32), atol=1e-3)


def test_another_encoder_is_refused_with_what_differs(data: Path, tmp_path: Path) -> None:
    declared: dict[str, Any] = copy.deepcopy(declaration(open_store(store_of(data, tmp_path, "sample-image"))))
    declared["recipe"]["weights_sha256"] = "0" * 64
    with pytest.raises(StoreMismatch, match="weights_sha256"):
        reload_encoder(declared)


def test_weights_that_are_gone(data: Path, tmp_path: Path) -> None:
    declared: dict[str, Any] = copy.deepcopy(declaration(open_store(store_of(data, tmp_path, "sample-image"))))
    declared["origin"]["weights"] = str(tmp_path / "gone.safetensors")
    with pytest.raises(UsageError, match="no longer at"):
        reload_encoder(declared)


def test_a_round_trip_of_int8_keeps_outliers() -> None:
    x_TD = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    x_TD[1, 5] = 1e4
    np.testing.assert_array_equal(as_stored(x_TD, "int8")[1], x_TD[1])
    assert 0 < np.abs(as_stored(x_TD, "int8")[0] - x_TD[0]).max() < 0.03
