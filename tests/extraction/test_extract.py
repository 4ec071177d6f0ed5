"""Stage one end to end on the built-in sample, with its two small encoders."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import zarr

from umecache.data.dataset import open_dataset
from umecache.data.sample import write_sample
from umecache.encoders.base import Encoder
from umecache.encoders.registry import load_encoder
from umecache.errors import DataError, JobFailed, UnknownName
from umecache.extraction import extract as stage_one
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.extract import choose_splits, extract
from umecache.reporting import Silent
from umecache.stores import open_store
from umecache.stores.errors import StoreMismatch

TEXT, IMAGE = ModelRequest(name="sample-text"), ModelRequest(name="sample-image")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sample"
    write_sample(folder, images=100, seed=0)
    return folder


def _config(data: Path, **changes: Any) -> ExtractConfig:
    return ExtractConfig(**{"models": (TEXT, IMAGE), "data": str(data), "device": "cpu", "workers": 2, **changes})


def _single(encoder: Encoder, item: str | bytes) -> np.ndarray[Any, Any]:
    prepared = encoder.prepare(item)
    with torch.inference_mode():
        hidden_BTD = encoder.encode(encoder.collate([prepared]))
    return hidden_BTD[0, : encoder.length(prepared)].float().numpy()


@pytest.mark.parametrize("store_format", ["zarr", "hdf5"])
def test_stores_hold_what_the_encoder_says_of_each_single_input(data: Path, store_format: str) -> None:
    summaries = extract(_config(data, format=store_format, dtype="float32", shard_records=5))
    assert [(s.model, s.split) for s in summaries] == [
        ("sample-text", "train"),
        ("sample-text", "val"),
        ("sample-image", "train"),
        ("sample-image", "val"),
    ]
    split = open_dataset(data).split("val")
    text, image = (load_encoder(name) for name in ("sample-text", "sample-image"))
    text_store, image_store = (open_store(s.path) for s in summaries if s.split == "val")
    for question in split.questions[:10]:
        np.testing.assert_allclose(text_store[question.id], _single(text, question.text), atol=2e-5)
    for image_id in split.image_ids[:3]:
        path = split.image_path(image_id)
        assert path is not None
        np.testing.assert_allclose(image_store[image_id], _single(image, path.read_bytes()), atol=2e-5)
    assert list(image_store.ids) == list(split.image_ids)
    assert summaries[1].records == len(split.questions)
    assert summaries[3].tokens == sum(len(image_store[i]) for i in split.image_ids)


def test_standard_tools_open_both_formats(data: Path) -> None:
    (zarr_store,) = extract(_config(data, models=(TEXT,), splits=("val",), store=None))
    tokens = zarr.open_group(zarr_store.path, mode="r")["tokens"]
    (h5_store,) = extract(_config(data, models=(TEXT,), splits=("val",), format="hdf5", store=data.parent / "h5"))
    index = next(Path(h5_store.path).glob("index*.h5"))
    with h5py.File(index) as file:
        np.testing.assert_array_equal(file["tokens"][:], np.asarray(tokens[:]))  # type: ignore[index]
    assert h5_store.fingerprint == zarr_store.fingerprint
    assert h5_store.recipe == zarr_store.recipe


def test_equal_questions_are_encoded_once(data: Path) -> None:
    (summary,) = extract(_config(data, models=(TEXT,), splits=("train",)))
    texts = [question.text for question in open_dataset(data).split("train").questions]
    assert summary.records == len(texts)
    assert summary.encoded == len(set(texts)) < len(texts)


def test_running_again_encodes_nothing(data: Path) -> None:
    first = extract(_config(data))
    second = extract(_config(data))
    assert [s.encoded for s in second] == [0] * 4
    assert [s.fingerprint for s in first] == [s.fingerprint for s in second]


class _Stop(Exception):
    pass


def _bytes(folder: Path) -> dict[str, bytes]:
    """Every file of a store."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_cut_run_goes_on_and_ends_the_same(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = extract(_config(data, models=(IMAGE,), splits=("train",), shard_records=2, store=tmp_path / "whole"))

    config = _config(data, models=(IMAGE,), splits=("train",), shard_records=2, store=tmp_path / "cut")
    load = stage_one.load_encoder

    def fragile(*args: Any) -> Encoder:
        encoder = load(*args)
        encode, calls = encoder.encode, [0]

        def cut(batch: Any) -> torch.Tensor:
            calls[0] += 1
            if calls[0] == 3:
                raise _Stop
            return encode(batch)

        encoder.encode = cut  # type: ignore[method-assign]
        return encoder

    monkeypatch.setattr(stage_one, "load_encoder", fragile)
    with pytest.raises(_Stop):
        extract(config)
    monkeypatch.undo()
    (rest,) = extract(config)
    assert rest.encoded == whole[0].encoded - 2 * 2  # two shards of two records were finished
    assert _bytes(Path(rest.path)) == _bytes(Path(whole[0].path))
    assert rest.fingerprint == whole[0].fingerprint


def test_broken_and_missing_images_are_recorded(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", images=100, seed=1)
    split = open_dataset(tmp_path / "sample").split("train")
    paths = [split.image_path(image_id) for image_id in split.image_ids[:3]]
    assert all(paths)
    paths[0].write_bytes(paths[0].read_bytes()[:200])  # type: ignore[union-attr]
    paths[1].write_text("not an image")  # type: ignore[union-attr]
    paths[2].unlink()  # type: ignore[union-attr]
    (summary,) = extract(_config(tmp_path / "sample", models=(IMAGE,), splits=("train",)))
    assert summary.failed == 3
    assert set(summary.failures) == set(split.image_ids[:3])
    assert len(set(summary.failures.values())) == 3
    store = open_store(summary.path)
    assert len(store[split.image_ids[3]]) > 0
    assert len(store[split.image_ids[0]]) == 0


def test_another_recipe_is_another_folder_and_a_mixed_one_is_refused(data: Path, tmp_path: Path) -> None:
    half = extract(_config(data, models=(TEXT,), splits=("val",)))
    full = extract(_config(data, models=(TEXT,), splits=("val",), dtype="float32"))
    assert half[0].path != full[0].path
    extract(_config(data, models=(TEXT,), splits=("val",), store=tmp_path / "one"))
    with pytest.raises(StoreMismatch, match="dtype"):
        extract(_config(data, models=(TEXT,), splits=("val",), store=tmp_path / "one", dtype="float32"))


def test_limit_takes_the_first_questions_and_their_images(data: Path) -> None:
    text, image = extract(_config(data, splits=("train",), limit=5))
    split = open_dataset(data).split("train", limit=5)
    assert (text.records, image.records) == (5, len(split.image_ids))
    assert "first5" in text.path


def test_splits_by_default_are_those_there_are(tmp_path: Path) -> None:
    write_sample(tmp_path / "only", images=20, seed=0, splits=("train",))
    assert choose_splits(open_dataset(tmp_path / "only"), None) == ("train",)
    write_sample(tmp_path / "other", images=20, seed=0, splits=("dev",))
    with pytest.raises(DataError, match="no split called train or val"):
        choose_splits(open_dataset(tmp_path / "other"), None)


def test_an_unknown_model_is_guessed(data: Path) -> None:
    with pytest.raises(UnknownName, match="sample-text"):
        extract(_config(data, models=(dataclasses.replace(TEXT, name="sampel-text"),)))


def test_two_processes_make_the_same_store(data: Path, tmp_path: Path) -> None:
    common = ["--data", str(data), "--model", "sample-image", "--shard-records", "2", "--split", "train", "--json"]
    alone = extract(_config(data, models=(IMAGE,), splits=("train",), shard_records=2, store=tmp_path / "alone"))
    argv = [
        sys.executable,
        "-m",
        "umecache",
        "extract",
        *common,
        "--devices",
        "cpu:2",
        "--store",
        str(tmp_path / "two"),
    ]
    subprocess.run(argv, check=True, capture_output=True)
    assert _bytes(tmp_path / "two" / "train") == _bytes(Path(alone[0].path))


def test_nothing_is_said_by_default(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    extract(_config(data, splits=("val",)), Silent())
    assert capfd.readouterr() == ("", "")


def test_layers_in_one_pass_are_the_stores_that_each_alone_would_be(
    data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def models(*layers: str) -> tuple[ModelRequest, ...]:
        return tuple(dataclasses.replace(model, layers=layers) for model in (TEXT, IMAGE))

    together = extract(_config(data, models=models("all"), splits=("val",)))
    assert [(s.model, s.layers) for s in together] == [
        (name, layer) for name in ("sample-text", "sample-image") for layer in ("last", "-2", "-3")
    ]
    monkeypatch.setenv("UMECACHE_HOME", str(tmp_path))
    for each in together:
        model = TEXT if each.model == TEXT.name else IMAGE
        request = dataclasses.replace(model, options=dataclasses.replace(model.options, layers=each.layers))
        (alone,) = extract(_config(data, models=(request,), splits=("val",)))
        assert alone.fingerprint == each.fingerprint
        assert _bytes(Path(alone.path)) == _bytes(Path(each.path))


def test_layers_that_are_there_are_not_encoded_again(data: Path) -> None:
    (first,) = extract(_config(data, models=(TEXT,), splits=("val",)))
    model = dataclasses.replace(TEXT, layers=("-1", "last", "-3"))
    last, lowest = extract(_config(data, models=(model,), splits=("val",)))
    assert (last.path, last.encoded) == (first.path, 0), "-1 is another name of last here"
    assert lowest.encoded == first.encoded


def test_a_full_disk_is_seen_before_anything_is_encoded(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umecache.extraction.space.free_bytes", lambda _: 1000)
    with pytest.raises(JobFailed, match="GB more"):
        extract(_config(data, models=(IMAGE,), splits=("val",)))
    (summary,) = extract(_config(data, models=(IMAGE,), splits=("val",), ignore_space=True))
    assert summary.records > 0


def test_time_is_told_by_part(data: Path, tmp_path: Path) -> None:
    (summary,) = extract(_config(data, models=(IMAGE,), splits=("val",), log=tmp_path / "log.txt"))
    assert sum(summary.time.values()) == pytest.approx(1, abs=0.01)
    assert "images encoded in" in (tmp_path / "log.txt").read_text()
