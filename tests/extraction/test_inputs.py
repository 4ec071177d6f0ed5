"""Inputs: ids, digests, what is missing; batches that depend on a shard alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.encoders.sounds import tone, wav
from umecache.data.dataset import Split, open_dataset
from umecache.data.sample import write_sample
from umecache.encoders.audiofile import SoundSize
from umecache.errors import DataError, UnreadableInput
from umecache.extraction import inputs as inputs_module
from umecache.extraction.inputs import (
    MISSING,
    by_length,
    content_digest,
    cores,
    default_workers,
    file_inputs,
    inputs_of,
    look_at_files,
    question_inputs,
)
from umecache.reporting import Silent


@pytest.fixture
def split(tmp_path: Path) -> Split:
    write_sample(tmp_path / "sample", images=100, seed=0)
    return open_dataset(tmp_path / "sample").split("train")


def test_questions_are_keyed_by_question(split: Split) -> None:
    inputs = question_inputs(split)
    assert inputs.ids == tuple(question.id for question in split.questions)
    assert inputs.read(0) == split.questions[0].text
    texts = [question.text for question in split.questions]
    assert len(set(inputs.digests)) == len(set(texts))
    assert inputs.digests[0] == content_digest(texts[0]) == hashlib.sha256(texts[0].encode()).hexdigest()


def test_images_are_keyed_by_image_once(split: Split) -> None:
    inputs = file_inputs(split, "image", look_at_files(split, "image", Silent(), workers=2))
    assert inputs.ids == split.image_ids
    assert len(set(inputs.ids)) == len(inputs.ids) < len(split.questions)
    for position in range(len(inputs.ids)):
        assert content_digest(inputs.read(position)) == inputs.digests[position]
    assert inputs.failures == {}


def test_a_missing_image_is_a_failure_not_an_error(split: Split, tmp_path: Path) -> None:
    path = split.image_path(split.image_ids[1])
    assert path is not None
    path.unlink()
    fresh = open_dataset(tmp_path / "sample").split("train")
    inputs = file_inputs(fresh, "image", look_at_files(fresh, "image", Silent(), workers=2))
    assert inputs.failures == {1: MISSING["image"]}
    assert inputs.digests[1] == f"missing:{fresh.image_ids[1]}"
    with pytest.raises(UnreadableInput):
        inputs.read(1)


def test_an_image_that_goes_away_is_unreadable(split: Split) -> None:
    inputs = file_inputs(split, "image", look_at_files(split, "image", Silent(), workers=2))
    path = split.image_path(split.image_ids[0])
    assert path is not None
    path.unlink()
    with pytest.raises(UnreadableInput, match="can't be read"):
        inputs.read(0)


@pytest.fixture
def items(tmp_path: Path) -> Split:
    """Two items with one sound, one with none, one whose sound is cut, one whose sound is missing."""
    lines = [{"id": 1, "audio": "a.wav"}, {"id": 2, "audio": "a.wav"}, {"id": 3}]
    lines += [{"id": 4, "audio": "cut.wav"}, {"id": 5, "audio": "gone.wav"}]
    (tmp_path / "items_train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "a.wav").write_bytes(wav(tone(0.2, rate=8_000), rate=8_000))
    (tmp_path / "cut.wav").write_bytes(wav(tone(0.2))[:-9])
    return open_dataset(tmp_path).split("train")


def test_sounds_are_keyed_by_sound_once_and_measured(items: Split) -> None:
    facts = look_at_files(items, "audio", Silent(), workers=2)
    inputs = inputs_of(items, "audio", facts)
    assert inputs.ids == items.audio_ids == (1, 3, 4, 5)
    assert inputs.sizes[0] == SoundSize(1_600, 8_000)
    assert inputs.failures == {1: MISSING["audio"], 2: "a truncated WAV file", 3: MISSING["audio"]}
    assert content_digest(inputs.read(0)) == inputs.digests[0]
    assert content_digest(inputs.read(2)) == inputs.digests[2], "what could not be used was read all the same"
    assert inputs.digests[3] == "missing:5"


def test_data_without_sounds_says_so(split: Split) -> None:
    with pytest.raises(DataError, match="has no sounds"):
        look_at_files(split, "audio", Silent(), workers=2)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 16))
def test_batches_cover_a_shard_once_with_like_lengths(lengths: list[int], batch_size: int) -> None:
    positions = list(range(len(lengths)))
    batches = by_length(positions, lengths, batch_size)
    assert sorted(p for batch in batches for p in batch) == positions
    assert all(len(batch) <= batch_size for batch in batches)
    # No batch reaches back below the longest of the one before: so padding is least.
    longest = [max(lengths[p] for p in batch) for batch in batches]
    shortest = [min(lengths[p] for p in batch) for batch in batches]
    assert all(a <= b for a, b in zip(longest, shortest[1:], strict=False))
    # The order in which positions are listed does not matter.
    assert by_length(positions[::-1], lengths, batch_size) == batches


def test_readers_leave_the_cpu_to_an_encoder_that_runs_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs_module.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert (default_workers(torch.device("cpu")), default_workers(torch.device("cuda"))) == (4, 9)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # processes on this machine share its cores
    assert (cores(), default_workers(torch.device("cpu")), default_workers(torch.device("cuda"))) == (2, 1, 3)
