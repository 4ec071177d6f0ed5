"""Where numbers come from."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st

from umecache.analysis.evidence import read_document
from umecache.analysis.provenance import command, provenance, sources
from umecache.cli.app import build
from umecache.data.dataset import Split
from umecache.training.compare import Comparison
from umecache.training.config import CompareConfig
from umecache.training.recipe import compare_config


def test_stores_are_named_once_with_who_read_them(finished: tuple[Path, Split]) -> None:
    document = read_document(finished[0])
    document["provenance"] = provenance(document, finished[0])
    runs, stores = sources(document)
    assert [row["run"] for row in runs.rows] == [f"runs/{name}" for name in ("text-only", "concat", "ume", "ume-res")]
    assert runs.rows[0]["no image"] == 3 and len(stores.rows) == 4
    assert {row["fingerprint"] for row in stores.rows} == {64 * "a", 64 * "b"}
    assert {row["rows"] for row in stores.rows} == {"all"}
    document["provenance"][0]["stores"] = []
    assert sources(document)[1].rows[0]["rows"] == "concat, ume, ume-res"


def parsed(words: list[str]) -> CompareConfig:
    """What `umecache compare` is asked to do by these words, read by the command itself."""
    caught: list[CompareConfig] = []

    def catch(config: CompareConfig, reporter: object) -> Comparison:
        caught.append(config)
        return Comparison(Path(), {})

    with patch("umecache.training.compare.compare", catch):
        compare_command().main(words[1:], standalone_mode=False)
    return caught[0]


@cache
def compare_command() -> Any:
    """`umecache compare` as it is installed."""
    import typer.main

    known: Any = typer.main.get_command(build())
    return known.commands["compare"]


def asked_of(config: CompareConfig) -> dict[str, Any]:
    """The settings as compare.json has them."""
    read: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return read


def again(config: CompareConfig, **document: Any) -> CompareConfig:
    """The configuration behind the command of a comparison."""
    words = shlex.split(command({"asked": asked_of(config), **document}))
    assert words[0] == "umecache"
    return parsed(words[1:])


NAMES = st.text("abcxyz_ -é'$", min_size=1, max_size=6).map(lambda name: f"n{name}n")
RATES = st.floats(1e-6, 1.0)
ARGUMENTS = st.one_of(st.booleans(), st.none(), st.integers(), st.floats(0, 1), NAMES, st.sampled_from(["true", "1"]))
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "data": NAMES, "train_split": NAMES, "init": NAMES, "batch_size": st.integers(1, 99), "classes": st.integers(0, 9),
    "text": st.lists(NAMES, max_size=3, unique=True).map(tuple),
    "image": st.lists(NAMES, max_size=3, unique=True).map(tuple),
    "features": st.dictionaries(st.sampled_from(["audio", "depth"]), NAMES),
    "methods": st.lists(st.sampled_from(["ume", "concat", "./m.py:M"]), min_size=1, unique=True).map(tuple),
    "method_args": st.dictionaries(st.sampled_from(["pairs", "ume.residual", "depth"]), ARGUMENTS),
    "seeds": st.one_of(st.just((0, 1, 2)), st.lists(st.integers(0, 50), min_size=1, unique=True).map(tuple)),
    "lr": st.one_of(st.just("auto"), RATES, st.lists(RATES, min_size=2, unique=True).map(lambda x: tuple(sorted(x)))),
    "lr_grid": st.lists(RATES, min_size=1, unique=True).map(lambda x: tuple(sorted(x))),
    "limit": st.none() | st.integers(1, 99), "label_limit": st.none() | st.integers(1, 99),
    "loss": st.sampled_from(["ce", "soft"]), "optimizer": st.sampled_from(["adam", "adamw"]),
    "schedule": st.sampled_from(["constant", "cosine"]), "warmup": st.floats(0, 0.9), "clip": st.floats(0, 5),
    "weight_decay": st.floats(0, 1), "epochs": st.integers(1, 20), "patience": st.none() | st.integers(1, 5),
    "protocol": st.sampled_from(["official-2021", "official-2016", "thesis"]), "dropout": st.floats(0, 0.9),
    "shuffle_images": st.booleans(), "stack_seeds": st.booleans(), "order": st.sampled_from(["full", "window", "auto"]),
    "precision": st.sampled_from(["float32", "bfloat16"]), "device": st.sampled_from(["auto", "cpu"]),
    "width": st.integers(1, 512), "threads": st.none() | st.integers(1, 4),
}  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.fixed_dictionaries({}, optional=SETTINGS))
def test_the_command_asks_for_the_same(said: dict[str, Any]) -> None:
    config = CompareConfig(**said)
    assert again(config) == config


RECIPE = """
title = "mine"
[settings]
methods = ["concat", "ume"]
epochs = 3
optimizer = "adam"
lr = 2e-5
seeds = [4, 5]
text = ["lstm"]
"""


@settings(max_examples=20, deadline=None)
@given(st.fixed_dictionaries({}, optional={name: SETTINGS[name] for name in ("epochs", "optimizer", "lr", "seeds")}))
@example({"epochs": 10, "optimizer": "adamw", "lr": 1e-3, "seeds": (0, 1, 2)})  # the plain defaults, not the recipe's
def test_flags_beside_a_recipe_win_again(said: dict[str, Any]) -> None:
    config = compare_config("thesis-a", said)
    assert again(config) == config
    assert "--batch-size" not in command({"asked": asked_of(config)})  # the recipe says it


def test_a_recipe_of_ones_own_and_one_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RECIPE)
    config = compare_config(str(tmp_path / "mine.toml"), {"epochs": 10})
    assert again(config) == config
    asked = {**asked_of(config), "recipe": "mine.toml"}
    words = shlex.split(command({"asked": asked, "cwd": str(tmp_path)}))
    assert words == ["umecache", "compare", "--epochs", "10", "--recipe", str(tmp_path / "mine.toml")]
    (tmp_path / "mine.toml").unlink()
    words = shlex.split(command({"asked": asked, "cwd": str(tmp_path)}))
    assert {"--optimizer", "--lr", "--methods", "--batch-size", "--seeds"} <= set(words)


def test_folders_are_left_out_and_paths_are_whole(tmp_path: Path) -> None:
    for name in ("data", "stores/bert/val", "vit/val", "roberta", "pre"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "mine.py").touch()
    config = CompareConfig(
        data="data", text=("stores/bert", "roberta"), image=("vit",), features={"audio": "vit", "depth": "hf:a/b"},
        methods=("./mine.py:M", "ume"), init="pre", out="there", update=True,
    )  # fmt: skip
    told = {"asked": asked_of(config), "cwd": str(tmp_path)}
    found = parsed(shlex.split(command(told))[1:])
    assert (found.data, found.init) == (f"{tmp_path}/data", f"{tmp_path}/pre")
    # A folder that holds no stores does not take a model's name from it.
    assert found.text == (f"{tmp_path}/stores/bert", "roberta") and found.image == (f"{tmp_path}/vit",)
    assert found.features == {"audio": f"{tmp_path}/vit", "depth": "hf:a/b"}
    assert found.methods == (f"{tmp_path}/mine.py:M", "ume")
    assert found.out is None and not found.update and not found.overwrite


def test_the_baseline_is_said_where_it_was_chosen() -> None:
    rows = [{"method": "text-only"}, {"method": "concat"}, {"method": "ume"}]
    asked = asked_of(CompareConfig(methods=("text-only", "concat", "ume")))
    for baseline, said in (("concat", []), ("ume", ["--baseline", "ume"])):
        words = shlex.split(command({"asked": asked, "rows": rows, "statistics": {"baseline": baseline}}))
        assert words[4:] == said
        parsed(words[1:])
