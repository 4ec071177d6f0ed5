"""`compare` from end to end on real stores."""

from __future__ import annotations

import csv
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest

from umecache.errors import UsageError
from umecache.training.compare import _warnings, compare
from umecache.training.config import CompareConfig, FuseConfig
from umecache.training.fuse import fuse
from umecache.training.runs import load_run

QUICK: dict[str, Any] = {"width": 16, "batch_size": 32, "epochs": 2}


def config(world: Any, out: Path, **said: Any) -> CompareConfig:
    stores = {"text": (str(world.text),), "image": (str(world.image),)}
    return CompareConfig(data=str(world.data), out=str(out), **{**QUICK, **stores, **said})


@pytest.fixture(scope="module")
def trained(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Controls and two methods, two seeds, trained well."""
    out = tmp_path_factory.mktemp("runs") / "comparison"
    methods = ("text-only", "image-only", "product", "ume-res")
    return compare(config(world, out, methods=methods, seeds=(0, 1), epochs=16, lr=1e-2, dropout=0.0))


def test_the_document_has_what_the_command_promises(trained: Any) -> None:
    document = trained.document
    assert [row["method"] for row in document["rows"]] == ["text-only", "image-only", "product", "ume-res"]
    for row in document["rows"]:
        assert {"method", "text", "image", "mean", "std", "seeds"} <= set(row)
        overall = [seed["overall"] for seed in row["seeds"]]
        assert row["mean"] == pytest.approx(statistics.fmean(overall), abs=0.005)
        assert row["std"] == pytest.approx(statistics.stdev(overall), abs=0.005)
    assert document["bytes_read"] > 0
    assert Path(document["report"]).is_file()
    assert json.loads((trained.path / "compare.json").read_text())["rows"][0]["method"] == "text-only"
    json.dumps(document, allow_nan=False)


def test_the_controls_lie_below_the_fusion_methods(trained: Any) -> None:
    mean = {row["method"]: row["mean"] for row in trained.document["rows"]}
    assert min(mean["product"], mean["ume-res"]) > 80
    assert max(mean["text-only"], mean["image-only"]) < 60


def test_a_row_is_what_fuse_gives_alone(trained: Any, world: Any, tmp_path: Path) -> None:
    alone = fuse(
        FuseConfig(
            data=str(world.data),
            text=str(world.text),
            image=str(world.image),
            method="ume-res",
            seeds=(1,),
            out=str(tmp_path / "run"),
            **{**QUICK, "epochs": 16, "lr": 1e-2, "dropout": 0.0},
        )
    )
    row = trained.document["rows"][3]
    assert row["seeds"][1]["overall"] == alone.document["accuracy"]["overall"]
    among = Path(row["run"]) / "seed-1"
    for name in ("model.safetensors", "results_val.json", "history.csv"):
        assert (among / name).read_bytes() == (alone.path / name).read_bytes()


def test_runs_of_a_comparison_load(trained: Any) -> None:
    run = load_run(trained.document["rows"][2]["run"], seed=1)
    assert run.facts["method"] == "product" and len(run.vocab.answers) == 3


def test_the_table_in_both_files(trained: Any) -> None:
    report = (trained.path / "report.md").read_text()
    assert "| ume-res | bert | vit |" in report and "sample standard deviation" in report
    with (trained.path / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [float(line["mean"]) for line in lines] == [row["mean"] for row in trained.document["rows"]]


def test_notes_say_what_a_reader_must_know(trained: Any) -> None:
    said = " ".join([*trained.document["notes"], *trained.document["warnings"]])
    for words in ("order seed 0, batch size 32", "n - 1", "Fewer than 3 seeds", "One rate (0.01)"):
        assert words in said
    assert trained.document["baselines"]["majority"] == pytest.approx(33.33, abs=0.01)


def test_rates_are_chosen_per_method_and_reported(world: Any, tmp_path: Path) -> None:
    grid = (1e-7, 5e-3)
    settings: dict[str, Any] = {"epochs": 15, "dropout": 0.0, "holdout": 0.3, "seeds": (0,)}
    done = compare(config(world, tmp_path / "c", methods=("concat", "product"), lr="auto", lr_grid=grid, **settings))
    for row in done.document["rows"]:
        assert row["lr"] == 5e-3
        assert set(row["lr_tried"]) == {"1e-07", "0.005"}
    assert any("held out" in note for note in done.document["notes"])
    assert any("At an end of the rates" in note for note in done.document["notes"])


def test_every_pair_of_stores_is_a_pass(world: Any, kit: Any, tmp_path: Path) -> None:
    for name in ("train", "val"):
        records = world.splits[name]
        kit.store(tmp_path / "beit" / name, "image", kit.image_items(records), model="beit")
    images = (str(world.image), str(tmp_path / "beit"))
    done = compare(config(world, tmp_path / "c", methods=("concat", "product"), image=images, seeds=(0,)))
    assert [(row["method"], row["image"]) for row in done.document["rows"]] == [
        ("concat", "vit"), ("product", "vit"), ("concat", "beit"), ("product", "beit"),
    ]  # fmt: skip
    # Both image stores hold the same values, so the passes must agree.
    assert done.document["rows"][0]["mean"] == done.document["rows"][2]["mean"]
    assert {Path(row["run"]).parent.name for row in done.document["rows"]} == {"bert+vit", "bert+beit"}


def test_all_stores_are_checked_before_anything_is_trained(world: Any, tmp_path: Path) -> None:
    shutil.copytree(world.image / "train", tmp_path / "half" / "train")
    images = (str(world.image), str(tmp_path / "half"))
    with pytest.raises(Exception, match="no store of the split 'val'"):
        compare(config(world, tmp_path / "c", methods=("concat",), image=images))
    assert not (tmp_path / "c").exists()


def test_a_recipe_s_figures_stand_beside_ours_as_the_source_s(world: Any, kit: Any, tmp_path: Path) -> None:
    models = {"text": "lstm", "image": "vgg16"}
    for name in ("train", "val"):
        records = world.splits[name]
        kit.store(
            tmp_path / "lstm" / name,
            "text",
            kit.text_items(records),
            model=models["text"],
            digests=kit.text_digests(records),
        )
        kit.store(tmp_path / "vgg16" / name, "image", kit.image_items(records), model=models["image"])
    said = {"text": (str(tmp_path / "lstm"),), "image": (str(tmp_path / "vgg16"),), "seeds": (0,)}
    done = compare(config(world, tmp_path / "c", methods=("ume", "text-only"), recipe="thesis-a", **said))
    assert done.document["rows"][0]["source"] == {"mean": pytest.approx(50.481), "std": pytest.approx(1.94)}
    assert done.document["rows"][1]["source"] is None
    report = (tmp_path / "c" / "report.md").read_text()
    assert "50.48 ± 1.94" in report and "not ours" in report


def test_arguments_for_one_method(world: Any, tmp_path: Path) -> None:
    done = compare(
        config(world, tmp_path / "c", methods=("evc", "ume"), method_args={"ume.pairs": "cross"}, seeds=(0,))
    )
    pairs = [load_run(row["run"]).fusion.pairs for row in done.document["rows"]]  # type: ignore[attr-defined]
    assert pairs == ["upper", "cross"]
    with pytest.raises(UsageError, match="--method-arg"):
        compare(config(world, tmp_path / "d", methods=("concat",), method_args={"pairs": "cross"}))


def test_several_rates_are_rows_of_one_table(world: Any, tmp_path: Path) -> None:
    done = compare(config(world, tmp_path / "c", methods=("concat", "product"), lr=(1e-3, 1e-2), seeds=(0,)))
    rows = done.document["rows"]
    assert [(row["method"], row["lr"]) for row in rows] == [
        ("concat", 1e-3), ("concat", 1e-2), ("product", 1e-3), ("product", 1e-2),
    ]  # fmt: skip
    assert {Path(row["run"]).name for row in rows} == {
        "concat-lr-0.001", "concat-lr-0.01", "product-lr-0.001", "product-lr-0.01",
    }  # fmt: skip
    assert load_run(rows[1]["run"]).facts["lr"] == 1e-2
    assert any("Every rate has a row" in note for note in done.document["notes"])
    alone = compare(config(world, tmp_path / "d", methods=("product",), lr=1e-2, seeds=(0,)))
    assert alone.document["rows"][0]["mean"] == rows[3]["mean"]


def test_with_shuffled_images_nothing_is_learned_and_the_table_says_so(
    trained: Any, world: Any, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"epochs": 16, "lr": 1e-2, "dropout": 0.0, "seeds": (0,), "shuffle_images": True}
    done = compare(config(world, tmp_path / "c", methods=("product",), **settings))
    assert done.document["rows"][0]["mean"] < 60 < trained.document["rows"][2]["mean"]
    assert any("Negative control" in line for line in done.document["warnings"])
    assert not any("Negative control" in line for line in trained.document["warnings"])


def test_random_encoders_are_named(trained: Any, world: Any) -> None:
    from types import SimpleNamespace

    def source(weights: str) -> Any:
        return SimpleNamespace(model=weights, facts=lambda: {"encoder": {"origin": {"weights": weights}}})

    questions: Any = SimpleNamespace(notes=("shared",), protocol="official-2021")
    asked = config(world, Path("unused"), methods=("concat",))
    told = _warnings(asked, questions, [(source("random"), source("/a/file"))], trained.document["rows"])
    assert told[0] == "shared" and "random weights: random." in told[1] and len(told) == 2


def test_rows_know_their_tokens_and_widths(trained: Any) -> None:
    row = trained.document["rows"][3]
    assert row["dims"] == {"text": 8, "image": 12} and row["tokens"]["image"] == 4
