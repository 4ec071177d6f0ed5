"""Examples in NumPy: what one would read from the stores by hand."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from umecache.data.answers import AnswerVocab
from umecache.data.sample import write_sample
from umecache.errors import UsageError
from umecache.loading.examples import NO_CLASS, Examples, open_examples
from umecache.stores import open_store
from umecache.stores.errors import StoreMissing


def test_features_are_those_of_the_stores(opened: SimpleNamespace, said: dict[str, Any]) -> None:
    examples, questions = opened.examples, opened.split.questions
    positions = [5, 0, 17, 5]
    batch = examples.batch(positions)
    for name, key in (("text", "id"), ("image", "image_id")):
        store = open_store(said[name] / "train")
        tokens_BTD, mask_BT = batch.features[name]
        expected, mask = store.batch([getattr(questions[p], key) for p in positions])
        assert tokens_BTD.dtype == np.float32
        np.testing.assert_array_equal(tokens_BTD, expected.astype(np.float32))
        np.testing.assert_array_equal(mask_BT, mask)
        np.testing.assert_array_equal(examples[17][name], store[getattr(questions[17], key)].astype(np.float32))
    assert batch.ids.tolist() == [questions[p].id for p in positions]
    assert examples.dims == {name: open_store(said[name] / "train").dim for name in ("text", "image")}


def test_values_as_they_are_stored(said: dict[str, Any]) -> None:
    examples = open_examples("val", **said, dtype=None)
    assert examples.batch([0]).features["text"][0].dtype == np.float16
    assert examples[0]["image"].dtype == np.float16


def test_labels_are_those_that_fuse_trains_on(opened: SimpleNamespace, sample_run: SimpleNamespace) -> None:
    from umecache.training.config import FuseConfig
    from umecache.training.questions import load_questions

    questions = load_questions(FuseConfig(data=str(sample_run.data)))
    examples = opened.examples
    everything = np.arange(len(examples))
    assert examples.vocab == questions.vocab
    np.testing.assert_array_equal(examples.labels, questions.targets.hard(everything).numpy())
    np.testing.assert_array_equal(examples.labelled, questions.targets.known)
    soft = open_examples("train", data=sample_run.data, **sample_run.stores, soft=True)
    np.testing.assert_array_equal(soft.soft_labels(everything), questions.targets.soft(everything).numpy())
    np.testing.assert_array_equal(soft.batch([3, 1]).soft, questions.targets.soft(np.array([3, 1])).numpy())
    assert examples.batch([3]).soft is None
    with pytest.raises(UsageError, match="no soft labels"):
        examples.soft_labels([3])


def test_a_smaller_vocabulary_leaves_questions_without_a_class(said: dict[str, Any]) -> None:
    few = open_examples("train", **said, classes=2)
    assert few.vocab is not None and len(few.vocab) == 2
    assert 0 < len(few.labelled) < len(few)
    assert set(few.labels) == {NO_CLASS, 0, 1}
    # val counts train's answers, or those that are given
    val = open_examples("val", **said, classes=2)
    again = open_examples("val", **said, vocab=few.vocab)
    np.testing.assert_array_equal(val.labels, again.labels)
    mine = AnswerVocab(("red",), (1,), 1, "mine")
    assert open_examples("val", **said, vocab=mine, soft=True).soft_labels([0]).shape == (1, 1)


def test_a_split_without_answers(said: dict[str, Any], tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_sample(data, images=100, seed=0)
    for name in ("train", "val"):
        (data / f"annotations_{name}.json").unlink()
    examples = open_examples("val", **{**said, "data": data}, soft=True)
    assert examples.vocab is None
    assert len(examples.labelled) == 0
    assert examples.soft_labels([0, 1]).shape == (2, 0)


def test_batches_of_an_epoch(opened: SimpleNamespace) -> None:
    examples: Examples = opened.examples
    plain = [batch.ids for batch in examples.batches(7)]
    np.testing.assert_array_equal(np.concatenate(plain), examples.ids)
    assert {len(ids) for ids in plain[:-1]} == {7}
    assert all(len(batch.ids) == 7 for batch in examples.batches(7, drop_last=True))

    def epoch(**said: Any) -> list[int]:
        return [int(one) for batch in examples.batches(16, order_seed=1, **said) for one in batch.ids]

    assert sorted(epoch()) == sorted(examples.ids.tolist())
    assert epoch(epoch=0) == epoch() != epoch(epoch=1)
    chosen = np.array([4, 2, 9])
    assert sorted(epoch(index=chosen)) == sorted(examples.ids[chosen].tolist())
    with pytest.raises(UsageError, match="batch_size 0"):
        examples.batches(0)


def test_windows_keep_an_image_s_questions_together(opened: SimpleNamespace) -> None:
    examples: Examples = opened.examples
    order = examples.order(order_seed=0, window=4, index=None)
    most = np.bincount(examples.images).max() * 4
    places = {image: np.flatnonzero(examples.images[order] == image) for image in set(examples.images.tolist())}
    assert max(np.ptp(at) for at in places.values()) < most < len(examples) / 2
    assert sorted(order) == list(range(len(examples)))


def test_one_modality_only(said: dict[str, Any]) -> None:
    assert open_examples("val", data=said["data"], text=said["text"], modalities=("text",)).dims.keys() == {"text"}
    with pytest.raises(StoreMissing, match="no image store"):
        open_examples("val", data=said["data"], text=said["text"])
    named = open_examples("val", data=said["data"], features={"pixels": open_store(said["image"] / "val")})
    assert named.dims.keys() == {"pixels"}


def test_a_copy_sent_to_a_worker_reads_the_same(opened: SimpleNamespace) -> None:
    examples = copy.deepcopy(opened.examples)  # as a pickle does: stores are opened anew by their paths
    assert examples.batch([1]).features["text"][0].tobytes() == opened.examples.batch([1]).features["text"][0].tobytes()


def test_no_torch_is_needed(said: dict[str, Any]) -> None:
    given = json.dumps({name: str(path) for name, path in said.items()})
    code = f"""
import sys, json, umecache
examples = umecache.open_examples("val", **json.loads({given!r}))
next(iter(examples.batches(4, order_seed=0, window=2)))
assert not {{"torch", "zarr", "h5py"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
