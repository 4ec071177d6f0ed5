"""A head's answers, maps and figures, for any of its questions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from umecache.analysis.looks import Head, open_heads
from umecache.analysis.maps import grad_cam
from umecache.data.results import read_results
from umecache.errors import UmecacheError
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.extract import extract
from umecache.training.compare import compare
from umecache.training.config import CompareConfig


@pytest.fixture(scope="module")
def heads(sample_run: SimpleNamespace) -> list[Head]:
    return open_heads([sample_run.path / "seed-0", sample_run.path / "seed-1"])


def test_labels_tell_heads_apart(heads: list[Head], sample_run: SimpleNamespace) -> None:
    assert [head.label for head in heads] == ["concat (seed-0)", "concat (seed-1)"]
    assert [head.label for head in open_heads([sample_run.path], seed=1)] == ["concat"]


def test_a_grid_of_several_encoders_is_explained_row_by_row(sample_run: SimpleNamespace, tmp_path: Path) -> None:
    again = tmp_path / "again"
    request = ModelRequest(name="sample-image")
    extract(ExtractConfig(models=(request,), data=str(sample_run.data), store=again, dtype="float32", device="cpu"))
    config = CompareConfig(
        data=str(sample_run.data),
        text=(str(sample_run.stores["text"]),),
        image=(str(sample_run.stores["image"]), str(again)),
        methods=("text-only", "concat"),
        seeds=(0,),
        width=8,
        epochs=1,
        device="cpu",
        out=str(tmp_path / "grid"),
    )
    grid = compare(config)
    images = [row["image"] for row in grid.document["rows"] if row["method"] == "concat"]
    moved = grid.path.rename(tmp_path / "moved")
    expected = [f"concat, sample-text + {image}" for image in images]
    assert [head.label for head in open_heads([moved])] == expected and len(set(images)) == 2
    runs = [path.parent for path in sorted(moved.rglob("concat/run.json"))]
    assert sorted(head.label for head in open_heads(runs)) == sorted(
        f"concat (sample-text + {image})" for image in images
    )


def test_answers_and_maps_are_the_heads_own(heads: list[Head]) -> None:
    head = heads[0]
    questions = head.inputs.split.questions[:20]  # more than a batch, of several lengths
    told = read_results(head.run.path / "results_val.json")
    looks = list(head.look(questions, kinds=("gradcam", "attention")))
    assert [look.question for look in looks] == list(questions)
    assert [look.answer for look in looks] == [look.target for look in looks] == [told[q.id] for q in questions]
    for look in (looks[0], looks[17]):
        alone = head.features([look.question])
        assert look.target is not None
        target_B = torch.tensor([head.run.vocab.index(look.target)])
        kept = {name: mask for name, (_, mask) in alone.items()}
        expected = grad_cam(head.run.model, alone, target_B, kept)
        for name in ("text", "image"):
            np.testing.assert_allclose(look.maps["gradcam"][name], expected[name][0].numpy(), rtol=1e-4, atol=1e-6)
        assert set(look.maps) == {"gradcam"} and look.faithful == {}
        assert look.chance is not None and 0 < look.chance <= 1


def test_faithfulness_starts_at_the_heads_own_chance(heads: list[Head]) -> None:
    looks = list(heads[0].look(heads[0].inputs.split.questions[:3], kinds=("gradcam",), measured=True))
    for look in looks:
        told = look.faithful["gradcam"]
        assert told.deletion_curve[0] == pytest.approx(look.chance, abs=1e-5)
        assert told.insertion_curve[-1] == pytest.approx(look.chance, abs=1e-5)
        assert told.insertion_curve[0] == pytest.approx(told.deletion_curve[-1], abs=1e-5)
        assert min(told.deletion, told.insertion, told.random) >= 0
    again = list(heads[0].look(heads[0].inputs.split.questions[1:2], kinds=("gradcam",), measured=True))
    assert again[0].faithful["gradcam"].random == pytest.approx(looks[1].faithful["gradcam"].random, abs=1e-5)


def test_the_mean_token_stands_in(heads: list[Head]) -> None:
    store = heads[0].inputs.store("image")
    assert store is not None
    seen = np.concatenate([store[q.image_id] for q in heads[0].inputs.split.questions[:256]]).astype(np.float64)
    assert np.abs(heads[0].filler.numpy() - seen.mean(0)).max() < 0.1 * np.abs(seen).max()


def test_which_answer(heads: list[Head]) -> None:
    head, [question] = heads[0], heads[0].inputs.split.questions[:1]
    assert head.inputs.split.annotations is not None
    truth = head.inputs.split.annotations[question.id]
    word = head.run.vocab.answers[2]
    assert [look.target for look in head.look([question], kinds=("gradcam",), target=word)] == [word]
    [right] = head.look([question], kinds=("gradcam",), target="right")
    expected = head.run.vocab.hard_target(truth)
    assert right.target == (None if expected is None else head.run.vocab.answers[expected])
    with pytest.raises(UmecacheError, match="Unknown answer 'giraffe'"):
        list(head.look([question], kinds=("gradcam",), target="giraffe"))


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(UmecacheError, match="not a run folder"):
        open_heads([tmp_path])
