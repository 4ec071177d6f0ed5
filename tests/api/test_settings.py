"""Keyword arguments of the calls: named as the commands' options, read into the same configurations."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main

from umecache.api.settings import (
    CompareSettings,
    ExtractSettings,
    FuseSettings,
    compare_settings,
    extract_config,
    fuse_settings,
    layers_of,
)
from umecache.cli.app import build
from umecache.errors import UsageError
from umecache.extraction.config import ExtractConfig
from umecache.training.config import CompareConfig, FuseConfig

# Options of the command line that a call has otherwise or not at all, and why.
OTHERWISE = {
    "help": None,
    "json": None,  # a result is typed
    "model": None,  # the call's own argument
    "baseline": None,  # likewise
    "strict": None,  # an exit status; summaries say what failed
    "method_arg": "method_args",  # KEY=VALUE pairs are a mapping
    "model_arg": "model_args",
}


def _options(command: str) -> set[str]:
    group: Any = typer.main.get_command(build())
    names = {option.lstrip("-") for each in group.commands[command].params for option in each.opts if option[1] == "-"}
    renamed = (OTHERWISE.get(name.replace("-", "_"), name.replace("-", "_")) for name in names)
    return {name for name in renamed if name is not None}


@pytest.mark.parametrize(
    ("command", "settings"), [("extract", ExtractSettings), ("fuse", FuseSettings), ("compare", CompareSettings)]
)
def test_every_option_of_the_command_is_a_keyword(command: str, settings: type) -> None:
    assert set(settings.__annotations__) == _options(command)


@pytest.mark.parametrize(("settings", "kind"), [(FuseSettings, FuseConfig), (CompareSettings, CompareConfig)])
def test_every_keyword_is_a_field(settings: type, kind: type) -> None:
    known = {each.name for each in fields(kind)} | {"devices", "recipe"}
    assert set(settings.__annotations__) <= known


def test_nothing_said_gives_the_defaults() -> None:
    assert fuse_settings({}) == FuseConfig()
    assert fuse_settings({"method": None, "lr": None}) == FuseConfig()
    assert compare_settings({}) == CompareConfig()
    config = extract_config("minilm")
    assert config == ExtractConfig(models=config.models)


def test_extract_settings() -> None:
    config = extract_config(
        ["vit", "bert"],
        data=Path("here"),
        split="train",
        weights={"vit": Path("vit.safetensors")},
        layers=(-1, "-4", -1),
        model_args={"vit": {"depth": 2}, "seed": 7},
        mean=0.5,
        std=[0.1, 0.2, 0.3],
        batch_size="auto",
        devices="cpu",
        log="log.txt",
    )
    vit, bert = config.models
    assert (config.data, config.splits, config.device, config.log) == ("here", ("train",), "cpu", Path("log.txt"))
    assert (vit.options.weights, bert.options.weights) == ("vit.safetensors", None)
    assert (vit.options.model_args, bert.options.model_args) == ({"seed": 7, "depth": 2}, {"seed": 7})
    assert (vit.options.mean, vit.options.std) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    assert (vit.wanted, config.batch_size) == (("-1", "-4"), None)
    assert extract_config("vit", batch_size=4, split=("a", "b"), store="s").splits == ("a", "b")


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"spilt": "val"}, "takes no 'spilt'.*Did you mean 'split'"),
        ({"dtype": "int4"}, "--dtype 'int4' is not one of"),
        ({"format": "tar"}, "--format 'tar' is not one of"),
        ({"precision": "int8"}, "--precision"),
        ({"layers": (1,)}, "--layers"),
        ({"mean": (1.0, 2.0)}, "--mean"),
        ({"weights": ("a", "b", "c")}, "3 weights are said for 1 models"),
        ({"weights": {"bert": "a"}}, "'bert', which is none"),
    ],
)
def test_extract_settings_that_will_not_do(said: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        extract_config("vit", **said)


def test_training_settings() -> None:
    config = fuse_settings({"seeds": 3, "lr": [1e-3, 1e-4], "devices": "cpu", "out": Path("runs") / "mine"})
    assert (config.seeds, config.lr, config.device, config.out) == ((0, 1, 2), (1e-4, 1e-3), "cpu", "runs/mine")
    assert fuse_settings({"seeds": [7], "lr": (1e-2,)}).seeds == (7,)
    several = compare_settings({"methods": "concat,ume", "text": "minilm", "image": ["vit", "beit"], "lr": "auto"})
    assert (several.methods, several.text, several.image) == (("concat", "ume"), ("minilm",), ("vit", "beit"))
    assert (several.lr, several.seeds) == ("auto", (0, 1, 2))
    thesis = compare_settings({"recipe": "thesis-a", "epochs": 1})
    assert (thesis.recipe, thesis.epochs) == ("thesis-a", 1)


@pytest.mark.parametrize("said", [{"seeds": 0}, {"seeds": [1, 1]}, {"epoch": 3}, {"lr": 11.0}, {"loss": "mse"}])
def test_training_settings_that_will_not_do(said: Any) -> None:
    with pytest.raises(UsageError):
        fuse_settings(said)


@pytest.mark.parametrize(
    ("said", "expected"),
    [("last", ("last",)), ("-1,-4", ("-1", "-4")), (" -2, -2 ", ("-2",)), ("all", ("all",)), (-3, ("-3",))],
)
def test_layers(said: str | int, expected: tuple[str, ...]) -> None:
    assert layers_of(said) == expected


@pytest.mark.parametrize("said", ["", "first", "1", "-0", "all,-1", "-1,,-2", "--1", 0, ()])
def test_layers_that_are_none(said: Any) -> None:
    with pytest.raises(UsageError, match="--layers"):
        layers_of(said)
