"""One pass: results per head, what was read and what was missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from umecache.extraction.devices import Place
from umecache.reporting import Silent
from umecache.training.config import CompareConfig
from umecache.training.head import HeadSpec
from umecache.training.job import Material, place, run_heads, say_where, settle_order
from umecache.training.questions import load_questions
from umecache.training.resolve import find_sources


class Heard(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def material_of(world: Any, **said: Any) -> Material:
    config = CompareConfig(data=str(world.data), **{"width": 16, "batch_size": 32, "epochs": 15, "dropout": 0.0} | said)
    questions = load_questions(config)
    splits = (questions.train, questions.evaluation)
    sources = find_sources(questions.dataset, splits, text=str(world.text), image=str(world.image))
    return Material(questions, sources, config, torch.device("cpu"))


def test_every_head_answers_every_question_and_the_joint_task_needs_both(world: Any) -> None:
    specs = [HeadSpec(method=method, seed=0, lr=3e-3) for method in ("text-only", "image-only", "product")]
    text, image, product = run_heads(material_of(world, epochs=25), specs, Silent())
    ids = {record["question_id"] for record in world.splits["val"]}
    assert set(text.answers) == set(image.answers) == set(product.answers) == ids
    assert text.scores and image.scores and product.scores
    assert product.scores.overall > 90
    assert max(text.scores.overall, image.scores.overall) < 60
    assert product.scores.questions == 72


def test_a_pass_reads_the_features_once_for_all_heads(world: Any) -> None:
    read = []
    for count in (1, 3):
        material = material_of(world, epochs=2, residency="store")
        run_heads(material, [HeadSpec(method="concat", seed=seed, lr=1e-3) for seed in range(count)], Silent())
        read.append(material.bytes_read)
    assert read[0] == read[1] > 0
    kept = material_of(world, epochs=2, residency="memory")
    run_heads(kept, [HeadSpec(method="concat", seed=0, lr=1e-3)], Silent())
    assert kept.bytes_read < read[0]


def test_missing_inputs_are_counted_and_answered_from_what_is_there(kit: Any, tmp_path: Path) -> None:
    world = kit.world(tmp_path, train=30, val=10, missing=(1, 2, 1001))
    material = material_of(world, epochs=2)
    assert material.missing_inputs(material.questions.evaluation) == {"text": 0, "image": 3}
    assert material.missing_inputs(material.questions.train) == {"text": 0, "image": 6}
    specs = [HeadSpec(method=m, seed=0, lr=1e-2) for m in ("image-only", "attention", "ume", "ume-res")]
    for result in run_heads(material, specs, Silent()):
        assert len(result.answers) == 30
        assert result.scores is not None and result.scores.questions == 30


def test_early_stopping_trains_on_the_rest_only(world: Any) -> None:
    material = material_of(world, epochs=3, patience=3, holdout=0.5)
    (result,) = run_heads(material, [HeadSpec(method="concat", seed=0, lr=1e-3)], Silent())
    assert all(epoch.held_out is not None for epoch in result.head.history)
    plain = run_heads(material_of(world, epochs=3), [HeadSpec(method="concat", seed=0, lr=1e-3)], Silent())[0]
    assert all(epoch.held_out is None for epoch in plain.head.history)


def test_it_says_in_one_line_where_features_stay(world: Any) -> None:
    for residency, words in (("memory", "kept in memory"), ("device", "kept on cpu"), ("store", "read from the store")):
        heard = Heard()
        say_where(material_of(world, residency=residency), heard)
        assert len(heard.lines) == 1 and words in heard.lines[0]


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with place(CompareConfig(threads=before + 1, device="cpu")) as found:
        assert (found.device.type, torch.get_num_threads()) == ("cpu", before + 1)
    assert torch.get_num_threads() == before


def test_a_tracker_hears_every_epoch_of_every_head(world: Any) -> None:
    heard: list[tuple[int, dict[str, float]]] = []

    class Listening:
        def log(self, values: Any, *, step: int) -> None:
            heard.append((step, dict(values)))

    material = material_of(world, epochs=2, patience=2, holdout=0.3)
    material.tracker = Listening()
    run_heads(material, [HeadSpec(method="concat", seed=seed, lr=1e-3) for seed in (0, 1)], Silent())
    assert [step for step, _ in heard] == [1, 1, 2, 2]
    label = "heads/concat/lr-0.001/seed-1"
    assert set(heard[1][1]) == {f"{label}/loss", f"{label}/lr", f"{label}/held_out"}


def test_the_order_is_settled_by_where_features_stay(world: Any) -> None:
    for residency, order in (("auto", "full"), ("memory", "full"), ("store", "window")):
        material = material_of(world, residency=residency)
        settled = settle_order(
            material.config, material.questions.train, [material.sources], Place(torch.device("cpu"))
        )
        assert settled.order == order
    assert settle_order(settled, material.questions.train, [], Place(torch.device("cpu"))) is settled


def test_by_windows_an_epoch_reads_every_image_once(world: Any) -> None:
    read = {}
    for order in ("window", "full"):
        material = material_of(world, epochs=2, residency="store", order=order)
        run_heads(material, [HeadSpec(method="image-only", seed=0, lr=1e-3)], Silent())
        read[order] = material.bytes_read
        facts = material.reading()
        assert facts["order"] == order and 0 <= float(str(facts["share_waited"])) <= 1
    assert read["window"] < read["full"]


def test_shuffled_images_go_round_whole_and_none_keeps_its_own(world: Any) -> None:
    material, plain = material_of(world, shuffle_images=True), material_of(world)
    split = material.questions.train
    image = next(source for source in material.sources if source.by_image)
    text = next(source for source in material.sources if not source.by_image)
    own, other = image.ids(split), material._ids(image, split)
    assert (own != other).all() and sorted(own) == sorted(other)
    assert len(set(zip(own.tolist(), other.tolist(), strict=True))) == len(set(own.tolist()))
    assert (material._ids(text, split) == text.ids(split)).all()
    assert (plain._ids(image, split) == own).all()
    assert (material._ids(image, split) == other).all()
