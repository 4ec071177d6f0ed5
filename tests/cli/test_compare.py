"""`umecache compare` as a user types it, on a tiny world of real stores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from umecache.cli.app import run
from umecache.fusion.registry import load_fusion
from umecache.training.runs import load_run

QUICK = ["--epochs", "1", "--width", "8", "--batch-size", "16", "--devices", "cpu"]


def compare(*argv: str) -> int:
    return run(["compare", *argv])


METHODS = ["--methods", "text-only,concat,ume"]


def test_json_is_the_one_thing_on_standard_output(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(*tiny, *QUICK, *METHODS, "--seeds", "2", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert {"rows", "bytes_read", "report"} <= set(document)
    assert [row["method"] for row in document["rows"]] == ["text-only", "concat", "ume"]
    for row in document["rows"]:
        assert {"method", "text", "image", "mean", "std", "seeds"} <= set(row)
        assert (row["text"], row["image"]) == ("bert", "vit")
        assert [set(seed) >= {"seed", "overall", "epochs"} for seed in row["seeds"]] == [True, True]
    assert Path(document["report"]).is_file()


def test_words(tiny: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert compare(*tiny, *QUICK, *METHODS, "--seeds", "0,", "--out", str(tmp_path / "c")) == 0
    shown = capsys.readouterr().out
    for words in ("text-only", "concat", "ume", "±", "yes/no", "Without training", "order seed", "report.html"):
        assert words in shown


def test_rates_are_chosen_on_a_held_out_part(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said = ["--lr", "auto", "--lr-grid", "1e-4,1e-2", "--holdout", "0.3", "--seeds", "0,"]
    assert compare(*tiny, *QUICK, *METHODS, *said, "--json") == 0
    captured = capsys.readouterr()
    for row in json.loads(captured.out)["rows"]:
        assert row["lr"] in (1e-4, 1e-2) and set(row["lr_tried"]) == {"0.0001", "0.01"}
    assert "rate of concat" in captured.err


def test_defaults_are_all_methods_and_three_seeds(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(*tiny, *QUICK, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    expected = ["text-only", "image-only", "concat", "product", "attention", "evc", "ume", "ume-res"]
    assert [row["method"] for row in rows] == expected
    assert {len(row["seeds"]) for row in rows} == {3}


def test_a_recipe_with_flags_over_it(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said = ["--recipe", "thesis-a", "--text", "bert", "--image", "vit", "--lr", "1e-3", "--seeds", "1"]
    assert compare(*tiny, *QUICK, *said, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in document["rows"]] == ["concat", "product", "attention", "evc", "ume"]
    assert document["recipe"]["name"] == "thesis-a"
    assert (document["asked"]["optimizer"], document["asked"]["epochs"], document["asked"]["lr"]) == ("adam", 1, 1e-3)


def test_a_recipe_s_facts_are_asked_of_the_stores(
    tiny: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('[settings]\nmethods = ["concat"]\n[settings.facts.image]\nimage_size = 224\n')
    assert compare(*tiny, *QUICK, "--recipe", str(mine)) == 2
    assert "image_size: 384 in the store, 224 in the recipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["--methods", "ume,mean"], "umecache methods"),
        (["--methods", "ume,ume"], "different methods"),
        (["--methods", ","], "--methods"),
        (["--lr-grid", "fast"], "--lr-grid"),
        (["--image", "beit"], "umecache extract --model beit"),
        (["--method-arg", "depth=3"], "none of"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    tiny: list[str], said: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(*tiny, *QUICK, *said) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ") and words in line


def test_methods_of_every_make_train_and_load_again(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Buffers, bare parameters, stacks of layers, a vector wider than the width: each in a run folder of its own."""
    methods = ["late-weighted", "simple-pair", "block", "mcb", "ban", "mbt", "q-former"]
    assert compare(*tiny, *QUICK, "--methods", ",".join(methods), "--seeds", "0,", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in document["rows"]] == methods
    for name in methods:
        loaded = load_run(Path(document["report"]).parent / "runs" / name)
        assert type(loaded.fusion) is load_fusion(name)
