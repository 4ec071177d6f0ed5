"""The questions of a run: overlap, vocabulary, baselines, counts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from umecache.errors import DataError
from umecache.training.config import CompareConfig
from umecache.training.questions import load_questions


def config(folder: Path, **said: Any) -> CompareConfig:
    return CompareConfig(data=str(folder), **said)


def copied(world: Any, tmp_path: Path) -> Path:
    shutil.copytree(world.data, tmp_path / "copy")
    return tmp_path / "copy"


def rewrite(folder: Path, name: str, change: Any) -> None:
    """Apply `change(question, annotation)` to every record of a split."""
    files = folder / f"questions_{name}.json", folder / f"annotations_{name}.json"
    questions, annotations = (json.loads(file.read_text()) for file in files)
    by_id = {a["question_id"]: a for a in annotations["annotations"]}
    for question in questions["questions"]:
        change(question, by_id[question["question_id"]])
    for file, document in zip(files, (questions, annotations), strict=True):
        file.write_text(json.dumps(document))


def test_counts_and_vocabulary(world: Any) -> None:
    questions = load_questions(config(world.data))
    assert set(questions.vocab.answers) == {"red", "green", "blue"}
    assert questions.facts() == {
        "train": 180,
        "labelled": 180,
        "trained_on": 180,
        "skipped_out_of_vocabulary": 0,
        "eval": 72,
        "eval_out_of_vocabulary": 0,
    }
    told = questions.vocabulary_facts()
    assert (told["classes"], told["coverage"]) == (3, 100.0)
    assert "train" in str(told["definition"])


def test_answers_outside_the_vocabulary_are_skipped_in_training_and_kept_in_evaluation(world: Any) -> None:
    questions = load_questions(config(world.data, classes=2))
    facts = questions.facts()
    assert facts["trained_on"] == 120 and facts["skipped_out_of_vocabulary"] == 60
    assert facts["eval"] == 72 and facts["eval_out_of_vocabulary"] == 24
    scores = questions.score(np.zeros(72, np.int64))
    assert scores is not None and scores.questions == 72


def test_the_vocabulary_knows_nothing_of_the_eval_split(world: Any, tmp_path: Path) -> None:
    folder = copied(world, tmp_path)

    def rename(_: Any, annotation: Any) -> None:
        annotation["multiple_choice_answer"] = "purple"

    rewrite(folder, "val", rename)
    assert "purple" not in load_questions(config(folder)).vocab.answers


def test_limits_apply_to_both_splits(world: Any) -> None:
    questions = load_questions(config(world.data, limit=50))
    assert (len(questions.train.questions), len(questions.evaluation.questions)) == (50, 50)


def test_questions_in_both_splits_are_refused(world: Any, tmp_path: Path) -> None:
    folder = copied(world, tmp_path)
    for kind in ("questions", "annotations"):
        shutil.copy(folder / f"{kind}_train.json", folder / f"{kind}_val.json")
    with pytest.raises(DataError, match="180 questions of 'val' are in 'train' too"):
        load_questions(config(folder))


def test_ids_that_start_anew_in_each_split_are_no_overlap(world: Any, tmp_path: Path) -> None:
    folder = copied(world, tmp_path)
    count = iter(range(10_000))

    def renumber(question: Any, annotation: Any) -> None:
        question["question_id"] = annotation["question_id"] = next(count)

    for name in ("train", "val"):
        count = iter(range(10_000))
        rewrite(folder, name, renumber)
    assert len(load_questions(config(folder)).evaluation.questions) == 72


def test_shared_images_are_noted(world: Any, tmp_path: Path) -> None:
    folder = copied(world, tmp_path)

    def move(question: Any, annotation: Any) -> None:
        question["image_id"] = annotation["image_id"] = question["image_id"] - 1000

    rewrite(folder, "val", move)
    (note,) = load_questions(config(folder)).notes
    assert "share 24 image ids" in note
    assert load_questions(config(world.data)).notes == ()


def test_a_train_split_without_annotations_is_refused(world: Any, tmp_path: Path) -> None:
    folder = copied(world, tmp_path)
    (folder / "annotations_train.json").unlink()
    with pytest.raises(DataError, match="no annotations"):
        load_questions(config(folder))


def test_an_empty_vocabulary_is_refused(world: Any) -> None:
    with pytest.raises(DataError, match="left in the vocabulary"):
        load_questions(config(world.data, min_count=1000))


def test_baselines_need_no_training(world: Any, tmp_path: Path) -> None:
    folder = copied(world, tmp_path)

    def by_wording(question: Any, annotation: Any) -> None:
        answer = "yes" if question["question"].startswith("which") else "no"
        annotation["multiple_choice_answer"] = answer
        annotation["answers"] = [{"answer": answer} for _ in range(10)]

    for name in ("train", "val"):
        rewrite(folder, name, by_wording)
    questions = load_questions(config(folder))
    assert questions.baselines == {"majority_answer": "no", "majority": 66.67, "majority_per_question": 100.0}


def test_without_annotations_nothing_is_scored(kit: Any, tmp_path: Path) -> None:
    world = kit.world(tmp_path, train=6, val=3, annotate_val=False)
    questions = load_questions(config(world.data))
    assert questions.score(np.zeros(9, np.int64)) is None
    assert questions.baselines == {}
    assert questions.facts()["eval_out_of_vocabulary"] is None
    assert len(questions.answers(np.zeros(9, np.int64))) == 9


def test_few_labels_are_all_that_is_learned_from(world: Any) -> None:
    every = load_questions(config(world.data))
    few, fewer = (load_questions(config(world.data, label_limit=count)) for count in (40, 10))
    assert len(few.labelled) == 40 and set(fewer.labelled) < set(few.labelled)
    assert len(few.train.questions) == len(every.train.questions) and len(every.labelled) == len(every.trained_on)
    assert set(few.trained_on) <= set(few.labelled)
    assert few.vocabulary_facts()["definition"] == every.vocabulary_facts()["definition"].replace("180", "40")
    rest, held = few.held_out
    assert set(rest) | set(held) == set(few.labelled) and not set(rest) & set(held)
    facts = few.facts()
    assert facts["labelled"] == 40 and facts["train"] == 180 and facts["eval"] == every.facts()["eval"]
    assert load_questions(config(world.data, label_limit=10**6)).facts() == every.facts()
    with pytest.raises(DataError, match="none is left to hold out"):
        _ = load_questions(config(world.data, label_limit=1, holdout=0.01)).held_out
