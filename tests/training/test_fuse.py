"""`fuse` from end to end on real stores."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from umecache.data.dataset import open_dataset
from umecache.data.results import read_results
from umecache.data.scoring import score_predictions
from umecache.errors import UsageError
from umecache.stores import open_store
from umecache.training.config import FuseConfig
from umecache.training.fuse import fuse
from umecache.training.runs import load_run

QUICK: dict[str, Any] = {"width": 16, "batch_size": 32, "epochs": 2}


def config(world: Any, out: Path | None = None, **said: Any) -> FuseConfig:
    stores = {"text": str(world.text), "image": str(world.image)}
    where = None if out is None else str(out)
    return FuseConfig(data=str(world.data), out=where, **{**QUICK, **stores, **said})


@pytest.fixture(scope="module")
def learned(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`ume-res` trained well, two seeds."""
    out = tmp_path_factory.mktemp("runs") / "ume-res"
    return fuse(config(world, out, method="ume-res", seeds=(0, 3), epochs=30, lr=5e-3, dropout=0.0))


def test_the_document_has_what_the_command_promises(learned: Any, world: Any) -> None:
    document = learned.document
    assert document["run"] == str(learned.path)
    assert document["method"] == "ume-res"
    assert set(document["accuracy"]) == {"overall", "per_answer_type", "per_question_type"}
    assert [(seed["seed"], seed["epochs"]) for seed in document["seeds"]] == [(0, 30), (3, 30)]
    assert document["accuracy"]["overall"] > 80
    assert set(document["accuracy"]["per_question_type"]) == {"which", "what", "name"}
    json.dumps(document, allow_nan=False)


def test_results_files_hold_every_question_and_score_as_said(learned: Any, world: Any) -> None:
    split = open_dataset(world.data).split("val")
    for seed in learned.document["seeds"]:
        answers = read_results(seed["results"])
        assert list(answers) == [question.id for question in split.questions]
        assert score_predictions(answers, split).overall == seed["overall"]
    overall = [seed["overall"] for seed in learned.document["seeds"]]
    assert learned.document["accuracy"]["overall"] == pytest.approx(np.mean(overall), abs=0.005)


def test_a_run_folder_holds_what_was_asked_and_on_what(learned: Any, world: Any) -> None:
    facts = json.loads((learned.path / "run.json").read_text())
    assert facts["asked"]["epochs"] == 30
    for source in facts["features"]:
        for name, told in source["stores"].items():
            assert told["fingerprint"] == open_store(told["path"]).fingerprint
            assert Path(told["path"]).name == name
    assert torch.__version__.startswith(facts["versions"]["torch"])
    inner = learned.path / "seed-3"
    assert {p.name for p in inner.iterdir()} == {"run.json", "model.safetensors", "results_val.json", "history.csv"}
    with (inner / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert [int(line["epoch"]) for line in history] == list(range(1, 31))
    assert float(history[-1]["loss"]) < float(history[0]["loss"])


def val_features(world: Any) -> dict[str, Any]:
    """Tokens and masks of every question of val."""
    split = open_dataset(world.data).split("val")
    features = {}
    for name, folder, ids in (
        ("text", world.text, [q.id for q in split.questions]),
        ("image", world.image, [q.image_id for q in split.questions]),
    ):
        tokens_BTD, mask_BT = open_store(folder / "val").batch(np.array(ids))
        features[name] = torch.from_numpy(np.array(tokens_BTD, np.float32)), torch.from_numpy(np.array(mask_BT))
    return features


@pytest.mark.parametrize("seed", [None, 0, 3])
def test_a_loaded_run_gives_the_answers_of_its_results_file(learned: Any, world: Any, seed: int | None) -> None:
    run = load_run(learned.path, seed=seed)
    assert run.path.name == f"seed-{seed or 0}"
    features = val_features(world)
    answers = read_results(run.path / "results_val.json")
    assert dict(zip(answers, run.predict(features), strict=True)) == answers
    assert run.fusion.out_dim == run.head.in_features
    assert run.logits(features).shape == (72, 3)


def test_a_run_answers_in_the_precision_that_it_was_trained_in(world: Any, tmp_path: Path) -> None:
    run = load_run(fuse(config(world, method="product", precision="bfloat16", out=str(tmp_path / "run"))).path)
    features = val_features(world)
    with torch.inference_mode():
        found = run.logits(features)
        with torch.autocast("cpu", torch.bfloat16):
            expected = run.model(features).float()
        exact = run.model(features)
    assert torch.equal(found, expected) and not torch.equal(found, exact)
    answers = read_results(run.path / "results_val.json")
    assert dict(zip(answers, run.predict(features), strict=True)) == answers


def test_a_seed_that_isn_t_there(learned: Any) -> None:
    with pytest.raises(UsageError, match="no seed 1"):
        load_run(learned.path, seed=1)


def test_one_seed_makes_one_flat_folder(world: Any, private_home: Path) -> None:
    first = fuse(config(world, method="concat"))
    assert first.path.parent == private_home / "runs" / "world"
    assert {p.name for p in first.path.iterdir()} == {
        "run.json",
        "model.safetensors",
        "results_val.json",
        "history.csv",
        "job.json",
    }
    assert first.document["std"] == 0.0
    assert load_run(first.path).model.training is False
    second = fuse(config(world, method="concat"))
    assert second.path != first.path and first.path.exists()
    assert (first.path / "results_val.json").read_bytes() == (second.path / "results_val.json").read_bytes()
    assert (first.path / "model.safetensors").read_bytes() == (second.path / "model.safetensors").read_bytes()


def test_an_existing_run_is_never_lost(world: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    fuse(config(world, out, method="concat"))
    before = (out / "run.json").read_bytes()
    with pytest.raises(UsageError, match="--out"):
        fuse(config(world, out, method="concat"))
    assert (out / "run.json").read_bytes() == before
    fuse(config(world, out, method="product", overwrite=True))
    assert json.loads((out / "run.json").read_text())["method"] == "product"


def test_a_split_without_annotations_is_answered_not_scored(kit: Any, tmp_path: Path) -> None:
    world = kit.world(tmp_path / "w", train=8, val=4, annotate_val=False)
    result = fuse(config(world, tmp_path / "run", method="concat"))
    assert result.document["accuracy"] is None
    assert result.document["seeds"][0]["overall"] is None
    assert len(read_results(result.document["results"])) == 12


def test_missing_inputs_stay_in_the_denominator(kit: Any, tmp_path: Path) -> None:
    world = kit.world(tmp_path / "w", train=8, val=4, missing=(1001, 2))
    result = fuse(config(world, tmp_path / "run", method="ume"))
    assert result.document["missing_inputs"] == {"text": 0, "image": 3}
    split = open_dataset(world.data).split("val")
    scores = score_predictions(read_results(result.document["results"]), split)
    assert (scores.questions, scores.overall) == (12, result.document["accuracy"]["overall"])


def test_hdf5_stores_give_the_same_head(kit: Any, tmp_path: Path) -> None:
    paths = []
    for kind in ("zarr", "hdf5"):
        world = kit.world(tmp_path / kind, train=8, val=4, format=kind)
        paths.append(fuse(config(world, tmp_path / f"run-{kind}", method="ume")).path)
    one, other = ((path / "model.safetensors").read_bytes() for path in paths)
    assert one == other


def test_a_control_needs_no_store_of_the_other_modality(world: Any, tmp_path: Path) -> None:
    alone = fuse(config(world, tmp_path / "a", method="text-only", image=None))
    both = fuse(config(world, tmp_path / "b", method="text-only"))
    assert (alone.document["image"], both.document["image"]) == (None, "vit")
    assert alone.document["accuracy"] == both.document["accuracy"]


def test_method_arguments_reach_the_method_and_the_run(world: Any, tmp_path: Path) -> None:
    result = fuse(config(world, tmp_path / "run", method="ume", method_args={"pairs": "cross"}))
    run = load_run(result.path)
    assert run.fusion.pairs == "cross"  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="--method-arg pairz"):
        fuse(config(world, tmp_path / "other", method="ume", method_args={"pairz": "cross"}))
    assert not (tmp_path / "other").exists()


def test_a_mix_of_layers_is_learned_kept_and_loaded_again(world: Any, kit: Any, tmp_path: Path) -> None:
    for name in ("train", "val"):
        noise = {
            k: np.random.default_rng(k).normal(size=v.shape).astype(np.float32)
            for k, v in kit.text_items(world.splits[name]).items()
        }
        kit.store(
            tmp_path / "deep" / name,
            "text",
            noise,
            digests=kit.text_digests(world.splits[name]),
            recipe={"weights_sha256": "0" * 64, "layers": "-2"},
        )
    both = f"{world.text},{tmp_path / 'deep'}"
    result = fuse(config(world, tmp_path / "run", method="concat", text=both, epochs=4, lr=2e-2))
    assert (result.document["text"], result.document["image"]) == ("bert", "vit")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["model"]["dims"] == {"text@1": 8, "text@2": 8, "image": 12}
    run = load_run(tmp_path / "run")
    assert run.model.mix is not None
    shares = run.model.mix.weights()
    assert shares["text@1"] > 0.5 > shares["text@2"], "the layer that says something weighs more"
    assert sum(shares.values()) == pytest.approx(1)
