"""`--init`: what fits is taken over, everything else is refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from umecache.errors import DataError, UsageError
from umecache.training.config import FuseConfig
from umecache.training.initial import check_initial, load_initial
from umecache.training.model import build_model
from umecache.training.runs import load_run

DIMS = {"text": 6, "image": 10}


def write(folder: Path, **changed: Any) -> Path:
    """A pre-training run of ume."""
    folder.mkdir()
    model = {
        "method": "ume", "method_args": {"pairs": "cross"}, "dims": DIMS, "width": 8,
        "encoders": {"text": "minilm", "image": "vit"},
    }  # fmt: skip
    facts = {"pretrained": True, "model": model, "data": {"folder": "/data", "train_split": "train"}, **changed}
    (folder / "run.json").write_text(json.dumps(facts))
    save_file(weights(9), folder / "pretrained.safetensors")
    return folder


def weights(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    model = build_model("ume", dims=DIMS, classes=1, width=8, dropout=0.0, method_args={"pairs": "cross"})
    return {**{name: value.clone() for name, value in model.state_dict().items()}, "hidden.0": torch.ones(6)}


def check(folder: Path, **changed: Any) -> None:
    asked = {"method": "ume", "args": {"pairs": "cross"}, "dims": DIMS, "models": ("minilm", "vit"), "width": 8,
             "scored": "val"} | changed  # fmt: skip
    sources = [
        SimpleNamespace(name=name, dim=dim, model=model)
        for (name, dim), model in zip(asked["dims"].items(), asked["models"], strict=True)
    ]
    questions: Any = SimpleNamespace(
        dataset=SimpleNamespace(folder=Path("/data")), evaluation=SimpleNamespace(name=asked["scored"])
    )
    config = FuseConfig(width=asked["width"], init=str(folder))
    check_initial(config, {asked["method"]: asked["args"]}, [sources], questions)  # type: ignore[list-item]


def test_the_fusion_is_taken_over_and_the_classifier_is_not(tmp_path: Path) -> None:
    initial = load_initial(write(tmp_path / "run"))
    model = build_model("ume", dims=DIMS, classes=5, width=8, dropout=0.0, method_args={"pairs": "cross"})
    classifier = model.classifier.weight.clone()
    initial.into("ume", model)
    for name, value in model.fusion.state_dict().items():
        assert torch.equal(value, weights(9)[f"fusion.{name}"])
    assert torch.equal(model.classifier.weight, classifier)
    other = build_model("concat", dims=DIMS, classes=5, width=8, dropout=0.0)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    initial.into("concat", other)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_what_fits_is_let_through(tmp_path: Path) -> None:
    check(write(tmp_path / "run"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"method": "evc"}, "holds the method 'ume'; asked for: evc"),
        ({"args": {}}, "pairs"),
        ({"width": 16}, "width: 8 pre-trained, 16 asked now"),
        ({"dims": {"text": 6, "image": 12}}, "dims.image: 10 pre-trained, 12 asked now"),
        ({"dims": {"image": 10, "text": 6}, "models": ("vit", "minilm")}, "another order"),
        ({"models": ("minilm", "beit")}, '"vit" pre-trained, "beit" asked now'),
        ({"scored": "train"}, "the split that is scored"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_difference(tmp_path: Path, changed: Any, words: str) -> None:
    folder = write(tmp_path / "run")
    with pytest.raises(UsageError) as refused:
        check(folder, **changed)
    assert words in str(refused.value)


def test_other_folders_are_named_as_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no run folder"):
        load_initial(tmp_path)
    with pytest.raises(UsageError, match="not a pre-training run"):
        load_initial(write(tmp_path / "answers", pretrained=False))
    with pytest.raises(DataError, match="can't be read"):
        load_initial(write(tmp_path / "broken", model={}))
    torn = write(tmp_path / "torn")
    (torn / "pretrained.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match="can't be read"):
        load_initial(torn)


def test_a_pre_training_run_answers_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="answers nothing"):
        load_run(write(tmp_path / "run"))
