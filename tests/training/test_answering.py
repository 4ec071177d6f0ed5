"""Answers to new questions: the same as those of the run's own eval split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from umecache.data.dataset import open_dataset
from umecache.data.results import read_results
from umecache.errors import DataError, UsageError
from umecache.training.answering import Answerer
from umecache.training.runs import load_run


def test_a_question_of_the_eval_split_is_answered_as_it_was_there(sample_run: Any) -> None:
    run = load_run(sample_run.path, seed=1)
    split = open_dataset(sample_run.data).split("val")
    said = read_results(run.path / "results_val.json")
    for image_id in split.image_ids[:4]:
        asked = [question for question in split.questions if question.image_id == image_id]
        answers = run.answerer.ask([question.text for question in asked], split.image_path(image_id), top=1)
        assert [best.answer for (best,) in answers] == [said[question.id] for question in asked]
    one = run.answer(question=asked[0].text, image=split.image_path(image_id), top=3)
    assert one[0].answer == said[asked[0].id] and len(one) == 3


def test_probabilities_are_of_all_answers(sample_run: Any) -> None:
    run = load_run(sample_run.path)
    split = open_dataset(sample_run.data).split("val")
    image = split.image_path(split.image_ids[0])
    guesses = run.answer(question="how many circles are there?", image=image, top=10_000)
    assert [guess.probability for guess in guesses] == sorted((g.probability for g in guesses), reverse=True)
    assert len(guesses) == len(run.vocab.answers)
    assert sum(guess.probability for guess in guesses) == pytest.approx(1, abs=1e-4)
    assert set(run.answerer.seconds) == {"text", "image", "fusion"}


def test_the_stores_are_not_needed(sample_run: Any, tmp_path: Path) -> None:
    facts = json.loads((sample_run.path / "seed-0" / "run.json").read_text())
    for source in facts["features"]:
        for store in source["stores"].values():
            store["path"] = str(tmp_path / "gone")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts))
    (tmp_path / "run" / "model.safetensors").hardlink_to(sample_run.path / "seed-0" / "model.safetensors")
    split = open_dataset(sample_run.data).split("val")
    said = {"question": split.questions[0].text, "image": split.image_path(split.questions[0].image_id)}
    assert load_run(tmp_path / "run").answer(**said) == load_run(sample_run.path).answer(**said)


def test_what_is_missing_is_said(sample_run: Any, tmp_path: Path) -> None:
    run = load_run(sample_run.path)
    with pytest.raises(UsageError, match="image"):
        run.answer(question="what is this?")
    with pytest.raises(DataError, match="can't be read"):
        run.answer(question="what is this?", image=tmp_path / "none.jpg")
    with pytest.raises(DataError, match="image can't be read"):
        run.answer(question="what is this?", image=b"not an image")
    with pytest.raises(UsageError, match="no text is given"):
        run.answerer.ask([], b"")
    with pytest.raises(UsageError, match="sample-text, sample-image"):
        Answerer(run, weights={"bert": "somewhere"})


def test_features_that_no_encoder_made(sample_run: Any, tmp_path: Path) -> None:
    facts = json.loads((sample_run.path / "seed-0" / "run.json").read_text())
    facts["features"][1]["encoder"] = {"model": None, "recipe": None}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    (tmp_path / "model.safetensors").hardlink_to(sample_run.path / "seed-0" / "model.safetensors")
    with pytest.raises(DataError, match="image features of this run name no encoder"):
        load_run(tmp_path).answer(question="what is this?", image=b"")
