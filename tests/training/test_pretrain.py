"""Pre-training: it learns which pairs belong together, is gone on with after a stop, and heads start from it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from umecache.errors import Stopped, UsageError
from umecache.reporting import Silent
from umecache.training.config import FuseConfig, PretrainConfig
from umecache.training.fuse import fuse
from umecache.training.pretrain import COLUMNS, PretrainHead, exchanged_of, pretrain


def config(sample: Any, **said: Any) -> PretrainConfig:
    settings: dict[str, Any] = {
        "data": str(sample.data), "text": str(sample.stores["text"]), "image": str(sample.stores["image"]),
        "method": "mutan", "width": 32, "epochs": 12, "lr": 3e-3, "dropout": 0.0, "device": "cpu",
    }  # fmt: skip
    return PretrainConfig(**(settings | said))


@pytest.fixture(scope="module")
def learned(sample_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run on the sample."""
    return pretrain(config(sample_run, out=str(tmp_path_factory.mktemp("pretrained") / "run")))


def lines_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "history.csv").open() as file:
        return [{name: float(value) for name, value in line.items() if value} for line in csv.DictReader(file)]


def test_both_losses_fall_on_the_sample(learned: Any) -> None:
    lines = lines_of(learned.path)
    assert len(lines) == 12 and tuple(lines[0]) == COLUMNS
    first, last = lines[0], lines[-1]
    assert last["match_loss"] < first["match_loss"] - 0.02
    assert last["match_accuracy"] > first["match_accuracy"] + 4
    assert last["mask_loss"] < 0.8 * first["mask_loss"]
    assert last["loss"] == pytest.approx(last["match_loss"] + last["mask_loss"], rel=1e-3)
    assert last["held_out_mask_accuracy"] > 20  # chance is 1 of 48


def test_pairs_are_told_apart_where_questions_tell_of_their_image(kit: Any, world: Any, tmp_path: Path) -> None:
    data, items = tmp_path / "world", {}
    (data / "images").mkdir(parents=True)
    records = [
        {**record, "question": f"kind {record['image_id'] % 3}, number {record['question_id']}"}
        for record in world.splits["train"]
    ]
    (data / "questions_train.json").write_text(json.dumps({"questions": records}))
    for record in records:  # the words say which of three kinds of image they are about
        x_TD = np.random.default_rng(record["question_id"]).normal(0, 0.3, (3, 8)).astype(np.float32)
        x_TD[:, record["image_id"] % 3] += 2.0
        items[record["question_id"]] = x_TD
    kit.store(tmp_path / "text" / "train", "text", items, digests=kit.text_digests(records))
    asked = PretrainConfig(
        data=str(data), text=str(tmp_path / "text"), image=str(world.image), method="product", width=16,
        epochs=20, lr=1e-2, dropout=0.0, holdout=0.3, objectives=("match",), device="cpu", out=str(tmp_path / "run"),
    )  # fmt: skip
    last = pretrain(asked).document["last"]
    # A third of the wrong pairs show an image of the right kind: nobody gets more than five in six.
    assert last["match_accuracy"] > 72 and last["held_out_match_accuracy"] > 68


def test_the_run_says_what_it_stands_on_and_holds_no_answer(learned: Any, sample_run: Any) -> None:
    facts = json.loads((learned.path / "run.json").read_text())
    assert facts["pretrained"] and facts["model"]["method"] == "mutan"
    assert facts["exchanged"] == ["image"]
    assert all(set(source["stores"]) == {"train"} for source in facts["features"])
    assert all(source["stores"]["train"]["fingerprint"] for source in facts["features"])
    assert facts["questions"]["train"] > 5 * facts["questions"]["held_out"] > 0
    assert "vocabulary" not in facts and learned.document["run"] == str(learned.path)
    assert learned.document["last"]["epoch"] == 12


def test_no_answer_is_read(sample_run: Any, tmp_path: Path) -> None:
    data = tmp_path / "unlabelled"
    data.mkdir()
    (data / "questions_train.json").write_bytes((sample_run.data / "questions_train.json").read_bytes())
    (data / "images").symlink_to(sample_run.data / "images")
    done = pretrain(config(sample_run, data=str(data), epochs=1, out=str(tmp_path / "run")))
    assert done.document["questions"]["train"] > 0


def test_heads_start_with_the_fusion_s_weights_and_their_own_classifier(learned: Any, sample_run: Any) -> None:
    from umecache.training.initial import load_initial
    from umecache.training.model import build_model

    kept = load_file(learned.path / "pretrained.safetensors")
    shape: dict[str, Any] = {"dims": load_initial(learned.path).facts["model"]["dims"], "width": 32, "dropout": 0.0}
    torch.manual_seed(5)
    fresh = build_model("mutan", classes=7, **shape)
    torch.manual_seed(5)
    started = build_model("mutan", classes=7, **shape)
    load_initial(learned.path).into("mutan", started)
    for name, value in started.state_dict().items():
        assert torch.equal(value, kept[name] if name.startswith("fusion.") else fresh.state_dict()[name])
        assert not torch.equal(kept[name], fresh.state_dict()[name])


def test_fuse_starts_from_it(learned: Any, sample_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from umecache.training.head import Head

    seen: list[dict[str, torch.Tensor]] = []
    step = Head.step

    def watched(self: Head, *args: Any, **named: Any) -> None:
        if len(seen) < 2 and self._step == 0:
            seen.append({name: value.clone() for name, value in self.model.state_dict().items()})
        step(self, *args, **named)

    monkeypatch.setattr(Head, "step", watched)
    asked = FuseConfig(
        data=str(sample_run.data), text=str(sample_run.stores["text"]), image=str(sample_run.stores["image"]),
        method="mutan", width=32, epochs=1, seeds=(0, 1), device="cpu", init=str(learned.path), label_limit=60,
        out=str(tmp_path / "run"),
    )  # fmt: skip
    done = fuse(asked)
    kept = load_file(learned.path / "pretrained.safetensors")
    for weights in seen:
        fusion = {name for name in weights if name.startswith("fusion.")}
        assert fusion and all(torch.equal(weights[name], kept[name]) for name in fusion)
    assert not torch.equal(seen[0]["classifier.weight"], seen[1]["classifier.weight"])
    assert done.document["questions"]["labelled"] == 60
    facts = json.loads((tmp_path / "run" / "seed-0" / "run.json").read_text())
    assert facts["init"]["run"] == str(learned.path) and len(facts["init"]["sha256"]) == 64


@pytest.mark.parametrize("epochs", [(1, 2), (2, 3)])
def test_a_stopped_run_goes_on_to_the_same_bits(
    sample_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: tuple[int, int]
) -> None:
    def asked(name: str) -> PretrainConfig:
        return config(
            sample_run, method="concat", width=8, epochs=3, dropout=0.3, limit=150, batch_size=32,
            checkpoint_minutes=1e-9, out=str(tmp_path / name),
        )  # fmt: skip

    through = pretrain(asked("through"))
    step, steps = PretrainHead.step, 0

    def stopped(self: PretrainHead, *args: Any, **named: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 5 * epochs[0] + 1:
            raise KeyboardInterrupt
        step(self, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainHead, "step", stopped)
        with pytest.raises(Stopped, match="Stopped"):
            pretrain(asked("again"))
    again = pretrain(asked("again"))
    for name in ("pretrained.safetensors", "history.csv"):
        assert (again.path / name).read_bytes() == (through.path / name).read_bytes()


def test_one_objective_alone(sample_run: Any, tmp_path: Path) -> None:
    for objective, other in (("match", "mask"), ("mask", "match")):
        out = str(tmp_path / objective)
        done = pretrain(config(sample_run, objectives=(objective,), epochs=1, method="concat", limit=100, out=out))
        last = done.document["last"]
        assert last[f"{other}_loss"] is None and last["loss"] == pytest.approx(last[f"{objective}_loss"], abs=1e-3)


def test_an_order_by_windows(sample_run: Any, tmp_path: Path) -> None:
    asked = config(sample_run, order="window", residency="store", epochs=1, limit=100, out=str(tmp_path / "run"))
    assert np.isfinite(pretrain(asked, Silent()).document["last"]["loss"])


@pytest.mark.parametrize("method", ["text-only", "image-only"])
def test_a_control_has_nothing_to_pair(sample_run: Any, tmp_path: Path, method: str) -> None:
    with pytest.raises(UsageError, match="needs two modalities"):
        pretrain(config(sample_run, method=method, out=str(tmp_path / "run")))


def test_what_is_exchanged() -> None:
    class Source:
        def __init__(self, name: str, by_image: bool) -> None:
            self.name, self.by_image = name, by_image

    text, image, sound = Source("text", False), Source("image", True), Source("audio", True)
    layers = (Source("image@-1", True), Source("image@-4", True))
    of = lambda *sources: exchanged_of("ume", sources)  # type: ignore[arg-type]  # noqa: E731
    assert of(text, image) == ("image",)
    assert of(text, image, sound) == ("image", "audio")
    assert of(text, *layers) == ("image",)
    assert of(image, sound) == ("audio",)  # all are kept by image
    assert of(text, Source("context", False)) == ("context",)
