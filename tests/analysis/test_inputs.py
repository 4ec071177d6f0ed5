"""A run's questions and features again: the same as in training, or refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from umecache.analysis.inputs import open_inputs
from umecache.data.results import read_results
from umecache.encoders.base import TokenGrid
from umecache.errors import DataError, UmecacheError
from umecache.stores import open_store
from umecache.training.runs import Run, load_run


@pytest.fixture
def run(sample_run: SimpleNamespace) -> Run:
    return load_run(sample_run.path)


def changed(run: Run, **facts: Any) -> Run:
    return dataclasses.replace(run, facts={**run.facts, **facts})


def test_the_same_features_and_so_the_same_answers(run: Run) -> None:
    inputs = open_inputs(run)
    questions = inputs.split.questions[3:40]
    features = inputs.gather(questions)
    store = inputs.store("image")
    assert store is not None
    expected, mask = store.batch([question.image_id for question in questions])
    assert np.array_equal(features["image"][0].numpy(), expected.astype(np.float32))
    assert np.array_equal(features["image"][1].numpy(), mask)
    told = read_results(run.path / "results_val.json")
    assert run.predict(features) == [told[question.id] for question in questions]


def test_grid(run: Run) -> None:
    inputs = open_inputs(run)
    assert inputs.picture == "image" and inputs.grid("image") == TokenGrid(height=4, width=4)
    assert inputs.store("audio") is None
    with pytest.raises(DataError, match="can't be meant"):
        inputs.grid("text")


def test_a_control_on_shuffled_images_is_refused(run: Run) -> None:
    asked = {**run.facts["asked"], "shuffle_images": True}
    with pytest.raises(UmecacheError, match="exchanged"):
        open_inputs(changed(run, asked=asked))


def test_another_store_is_refused(run: Run) -> None:
    features = json.loads(json.dumps(run.facts["features"]))
    features[0]["stores"]["val"]["fingerprint"] = 64 * "0"
    with pytest.raises(UmecacheError, match="is not the text store"):
        open_inputs(changed(run, features=features))
    features[0]["stores"]["val"]["path"] = "/nowhere"
    with pytest.raises(UmecacheError):
        open_inputs(changed(run, features=features))


def test_what_has_moved_is_named(run: Run, sample_run: SimpleNamespace, tmp_path: Path) -> None:
    shutil.copytree(sample_run.stores["text"], tmp_path / "text")
    features = json.loads(json.dumps(run.facts["features"]))
    features[0]["stores"]["val"]["path"] = "/nowhere"
    inputs = open_inputs(
        changed(run, features=features), features={"text": str(tmp_path / "text")}, data=str(sample_run.data)
    )
    assert inputs.sources[0].stores["val"].fingerprint == open_store(sample_run.stores["text"] / "val").fingerprint
    with pytest.raises(UmecacheError, match="Unknown features 'txet'"):
        open_inputs(run, features={"txet": str(tmp_path / "text")})
