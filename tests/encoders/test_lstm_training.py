"""Training `lstm`: what it learns, that it is repeatable, that it happens once."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from umecache.encoders import lstm_training
from umecache.encoders.base import LoadContext, TrainText
from umecache.encoders.lstm_network import VOCAB, WEIGHTS, unpack
from umecache.encoders.lstm_training import LstmSettings, batches, gather, train, trained_files, training_key
from umecache.encoders.tokens import WordVocab
from umecache.errors import UsageError

COLOURS = {"banana": "yellow", "grass": "green", "sky": "blue", "snow": "white", "coal": "black"}
QUESTIONS = [f"what color is {word} {place}?" for word in COLOURS for place in ("", "here", "over there") * 4]
ANSWERS = [answer for answer in COLOURS.values() for _ in range(12)]
TEXT = TrainText(questions=QUESTIONS, answers=ANSWERS)
SMALL = LstmSettings(dim=16, embedding_dim=12, epochs=60, batch_size=8, lr=1e-2, dropout=0.0)
QUICK = LstmSettings(dim=8, embedding_dim=4, epochs=2, batch_size=8)


def facts_of(files: dict[str, bytes]) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(files[VOCAB])
    return facts


def test_it_learns_the_answers() -> None:
    training = facts_of(train(TEXT, SMALL, 0, LoadContext(), "key"))["training"]
    assert training["loss"] < 0.1  # log 5 = 1.6 at the start
    assert training | {"questions": 60, "distinct": 15, "answers": 5, "seed": 0, "epochs": 60} == training


def test_the_same_weights_again_and_with_other_threads() -> None:
    threads = torch.get_num_threads()
    files = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            torch.manual_seed(count)  # the caller's random state plays no role
            before = torch.get_rng_state()
            files.append(train(TEXT, QUICK, 0, LoadContext(), "key"))
            assert torch.equal(torch.get_rng_state(), before)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert files[0] == files[1]
    assert train(TEXT, QUICK, 1, LoadContext(), "key")[WEIGHTS] != files[0][WEIGHTS]


def test_equal_questions_are_one_example() -> None:
    text = TrainText(
        questions=["Is it red?", "is it RED?", "is it red?", "is it big?"], answers=["yes", "no", "yes", "no"]
    )
    examples, classes = gather(text, WordVocab.build(text.questions, min_count=1), 10)
    assert classes == 2
    assert [example.answers for example in examples] == [{1: 2, 0: 1}, {0: 1}]  # ties by the alphabet: no, yes


def test_rare_answers_are_left_out() -> None:
    text = TrainText(questions=["a", "b", "c", "d"], answers=["yes", "yes", "no", "no"])
    examples, classes = gather(text, WordVocab.build(text.questions, min_count=1), 1)
    assert classes == 1
    assert len(examples) == 2


def test_grouping_changes_no_loss() -> None:
    """Cross entropy over equal questions together, against the plain mean over all questions."""
    text = TrainText(questions=["a", "a", "a", "b"], answers=["x", "y", "x", "y"])
    examples, classes = gather(text, WordVocab.build(text.questions, min_count=1), 10)
    _, target_BC = lstm_training._tensors(examples, classes)
    log_probs_BC = torch.log_softmax(torch.randn(2, 2, generator=torch.Generator().manual_seed(0)), -1)
    grouped = -(target_BC * log_probs_BC).sum() / target_BC.sum()
    plain = -torch.stack([log_probs_BC[0, 0], log_probs_BC[0, 1], log_probs_BC[0, 0], log_probs_BC[1, 1]]).mean()
    torch.testing.assert_close(grouped, plain)


def test_batches_hold_one_length_and_everything_once() -> None:
    examples, _ = gather(TEXT, WordVocab.build(QUESTIONS), 10)
    torch.manual_seed(0)
    found = list(batches(examples, 4))
    assert all(len({len(example.ids) for example in batch}) == 1 for batch in found)
    assert all(len(batch) <= 4 for batch in found)
    assert sorted(id(e) for batch in found for e in batch) == sorted(map(id, examples))


# Settings


def test_settings_from_arguments() -> None:
    assert LstmSettings.from_args({}) == LstmSettings()
    assert LstmSettings.from_args({"epochs": 4, "dim": 1024, "lr": 1e-4}) == LstmSettings(epochs=4, dim=1024, lr=1e-4)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"epoch": 3}, "'epochs'"),
        ({"zzz": 3}, "It has: "),
        ({"dim": 0}, "above 0"),
        ({"dim": 1.5}, "whole number"),
        ({"dim": "wide"}, "whole number"),
        ({"layers": True}, "whole number"),
        ({"lr": -1.0}, "above 0"),
        ({"lr": None}, "no number"),
        ({"dropout": 1.0}, "below 1"),
    ],
)
def test_impossible_settings(args: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        LstmSettings.from_args(args)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("distinct", "passes"), [(60, 100), (2_000, 6), (5_000, 6), (10_000, 4), (38_454, 1), (200_000, 1)]
)
def test_passes(distinct: int, passes: int) -> None:
    assert LstmSettings().passes(distinct) == passes
    assert LstmSettings(epochs=3).passes(distinct) == 3


def test_key_covers_what_decides_the_weights() -> None:
    keys = {
        training_key(TEXT, QUICK, 0),
        training_key(TEXT, QUICK, 1),
        training_key(TEXT, SMALL, 0),
        training_key(TrainText(questions=QUESTIONS[::-1], answers=ANSWERS), QUICK, 0),
        training_key(TrainText(questions=QUESTIONS, answers=ANSWERS[::-1]), QUICK, 0),
    }
    assert len(keys) == 5


def test_nothing_to_learn_from() -> None:
    with pytest.raises(UsageError, match="no answered questions"):
        train(TrainText(questions=[], answers=[]), QUICK, 0, LoadContext(), "key")


# Once


def test_trained_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = LoadContext(cache_dir=tmp_path)
    first = trained_files(TEXT, QUICK, 0, context)
    (folder,) = (tmp_path / "lstm").iterdir()
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == [VOCAB, WEIGHTS]
    assert not list((folder / "claims").iterdir())
    monkeypatch.setattr(lstm_training, "train", lambda *_: pytest.fail("trained again"))
    assert trained_files(TEXT, QUICK, 0, context) == first


def test_other_data_are_trained_apart(tmp_path: Path) -> None:
    context = LoadContext(cache_dir=tmp_path)
    trained_files(TEXT, QUICK, 0, context)
    trained_files(TrainText(questions=QUESTIONS[:30], answers=ANSWERS[:30]), QUICK, 0, context)
    assert len(list((tmp_path / "lstm").iterdir())) == 2


@pytest.mark.parametrize("name", [WEIGHTS, VOCAB])
@pytest.mark.parametrize("keep", [None, 50])
def test_damaged_files_are_trained_again(tmp_path: Path, name: str, keep: int | None) -> None:
    context = LoadContext(cache_dir=tmp_path)
    first = trained_files(TEXT, QUICK, 0, context)
    (file,) = tmp_path.glob(f"lstm/*/{name}")
    if keep is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:keep])
    assert trained_files(TEXT, QUICK, 0, context) == first
    assert file.read_bytes() == first[name]


def _train_in_process(folder: str, log: str) -> None:
    """In another process: note each training, slowly enough for the others to come."""
    real = lstm_training.train

    def noted(*args: Any) -> dict[str, bytes]:
        with Path(log).open("a") as file:
            file.write("trained\n")
        time.sleep(0.5)
        return real(*args)

    lstm_training.train = noted
    unpack(trained_files(TEXT, QUICK, 0, LoadContext(cache_dir=Path(folder))))


def test_only_one_of_several_processes_trains(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    log = tmp_path / "log"
    workers = [spawn.Process(target=_train_in_process, args=(str(tmp_path / "cache"), str(log))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert log.read_text() == "trained\n"


def test_a_dead_process_blocks_nobody(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    worker = spawn.Process(target=_train_in_process, args=(str(tmp_path), str(tmp_path / "log")))
    worker.start()
    while not list(tmp_path.glob("lstm/*/claims/train.*")) and worker.is_alive():
        time.sleep(0.01)
    worker.kill()
    worker.join()
    assert list(tmp_path.glob("lstm/*/claims/train.*"))
    unpack(trained_files(TEXT, QUICK, 0, LoadContext(cache_dir=tmp_path)))
