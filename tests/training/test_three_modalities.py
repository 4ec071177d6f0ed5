"""Text, image and sound end to end, on the sample with sound: all three beat each two; every method takes them."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from umecache.data.dataset import open_dataset
from umecache.data.results import read_results
from umecache.data.sample_sound import write_sound_sample
from umecache.errors import DataError, UsageError
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.extract import extract
from umecache.fusion.catalogue import METHODS
from umecache.stores import open_writer
from umecache.stores.errors import StoreMismatch
from umecache.training.compare import compare
from umecache.training.config import CompareConfig
from umecache.training.resolve import find_sources
from umecache.training.runs import load_run

NAMES = ("text", "image", "audio")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The data folder and the store of each modality."""
    folder = tmp_path_factory.mktemp("three")
    data = write_sound_sample(folder / "data", images=500)
    stores = {}
    for name in NAMES:
        (first, _) = extract(
            ExtractConfig(
                models=(ModelRequest(name=f"sample-{name}"),),
                data=str(data),
                store=folder / name,
                device="cpu",
                workers=1,
            )
        )
        stores[name] = str(Path(first.path).parent)
    return data, stores


def trained(world: tuple[Path, dict[str, str]], out: Path, names: tuple[str, ...] = NAMES, **said: Any) -> Any:
    data, stores = world
    settings: dict[str, Any] = {"methods": ("product",), "seeds": (0,), "epochs": 24, "lr": 3e-3, "width": 64, **said}
    features = {name: stores[name] for name in names}
    return compare(CompareConfig(data=str(data), features=features, device="cpu", out=str(out), **settings))


@pytest.fixture(scope="module")
def three(world: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trained(world, tmp_path_factory.mktemp("runs") / "three")


def test_three_beat_each_two(world: tuple[Path, dict[str, str]], three: Any, tmp_path: Path) -> None:
    best = three.document["rows"][0]["mean"]
    for pair in combinations(NAMES, 2):
        (row,) = trained(world, tmp_path / "-".join(pair), pair).document["rows"]
        assert row["mean"] + 10 < best, pair


def test_a_new_sound_is_answered_as_that_of_the_eval_split(world: tuple[Path, dict[str, str]], three: Any) -> None:
    run = load_run(three.document["rows"][0]["run"])
    split = open_dataset(world[0]).split("val")
    said = read_results(run.path / "results_val.json")
    for question in split.questions[:6]:
        assert question.audio_id is not None
        files = {"image": split.image_path(question.image_id), "audio": split.file_path("audio", question.audio_id)}
        assert run.answer(question=question.text, **files)[0].answer == said[question.id]
    with pytest.raises(UsageError, match="no audio is given") as error:
        run.answer(question=question.text, image=files["image"])
    assert error.value.next == "--audio FILE"
    with pytest.raises(DataError, match="audio can't be read"):
        run.answer(question=question.text, image=files["image"], audio=b"RIFF")


def test_every_method_that_takes_three(world: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    methods = tuple(
        name
        for name, entry in METHODS.items()
        if entry.uses is None and entry.min_modalities <= 3 <= (entry.max_modalities or 3)
    )
    assert {"concat", "ume", "ume-res", "mfb", "bottleneck"} & set(methods)
    found = trained(world, tmp_path / "all", methods=methods, epochs=1, width=16, limit=40)
    assert [row["method"] for row in found.document["rows"]] == list(methods)


def test_features_made_elsewhere_are_keyed_by_item(world: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Stores without a word on their data: one record for each item, though items share sounds."""
    data, stores = world
    split = open_dataset(data).split("train")
    writer = open_writer(
        tmp_path / "own",
        manifest={"model": "mine", "modality": "audio", "recipe": {}, "origin": {}, "dataset": None, "grid": None},
        ids=[q.id for q in split.questions],
        digests=[f"{q.id:064x}" for q in split.questions],
        lengths=[1] * len(split.questions),
        dim=4,
    )
    for shard in writer.offers():
        assert shard is not None
        with shard:
            for position in shard.records:
                shard.write(position, np.ones((1, 4), np.float32))
    writer.seal()
    dataset = open_dataset(data)
    own, made = (
        find_sources(dataset, [split], features={"audio": ref})[0] for ref in (str(tmp_path / "own"), stores["audio"])
    )
    assert (own.keyed_by, made.keyed_by) == ("question", "audio")
    assert len(own.stores["train"]) > len(made.stores["train"])


def test_other_sounds_are_refused(world: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    other = write_sound_sample(tmp_path / "other", images=500, seed=1)
    dataset = open_dataset(other)
    with pytest.raises(StoreMismatch, match=r"sounds"):
        find_sources(dataset, [dataset.split("train")], features={"audio": world[1]["audio"]})
