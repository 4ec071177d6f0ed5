"""Recipes: the thesis' two setups, files of one's own, and flags that win over both."""

from __future__ import annotations

from pathlib import Path

import pytest

from umecache.errors import UnknownName, UsageError
from umecache.fusion.registry import METHODS
from umecache.training.recipe import compare_config, fuse_config, load_recipe, shipped


def test_both_setups_ship() -> None:
    assert shipped() == ("thesis-a", "thesis-b")


def test_thesis_a_has_the_source_s_values() -> None:
    config = compare_config("thesis-a", {})
    assert config.methods == ("concat", "product", "attention", "evc", "ume")
    assert (config.text, config.image) == (("lstm",), ("vgg16",))
    assert (config.lr, config.batch_size, config.epochs, config.classes) == (2e-5, 32, 10, 1000)
    assert (config.optimizer, config.loss, config.schedule, config.recipe) == ("adam", "ce", "constant", "thesis-a")
    recipe = load_recipe("thesis-a")
    assert (recipe.models, recipe.image_size) == (("lstm", "vgg16"), 384)
    assert recipe.extract == "umecache extract --recipe thesis-a"


def test_thesis_b_is_a_grid_of_encoders() -> None:
    config = compare_config("thesis-b", {})
    assert config.text == ("bert", "roberta", "deberta-v3")
    assert config.image == ("vit", "beit")
    assert (config.lr, config.batch_size, config.classes, config.optimizer) == (2e-5, 16, 3128, "adamw")
    assert len(load_recipe("thesis-b").figures) == len(config.text) * len(config.image) * len(config.methods)


@pytest.mark.parametrize("name", shipped())
def test_recipes_name_methods_that_exist_and_say_what_differs(name: str) -> None:
    recipe = load_recipe(name)
    assert set(recipe.settings["methods"]) <= set(METHODS)
    assert recipe.source and recipe.differs
    assert {figure.method for figure in recipe.figures} == set(recipe.settings["methods"])


def test_figures_are_percentages_by_row() -> None:
    figure = load_recipe("thesis-a").figure("ume", "lstm", "vgg16")
    assert figure is not None
    assert figure.mean == pytest.approx(50.481)
    assert figure.std == pytest.approx(1.94)
    assert load_recipe("thesis-a").figure("ume", "bert", "vgg16") is None


def test_flags_win_over_a_recipe() -> None:
    config = compare_config("thesis-a", {"lr": "auto", "epochs": 2, "text": ("minilm",), "classes": None})
    assert (config.lr, config.epochs, config.text, config.classes) == ("auto", 2, ("minilm",), 1000)


def test_fuse_takes_one_method_of_a_recipe() -> None:
    with pytest.raises(UsageError, match="several methods"):
        fuse_config("thesis-a", {})
    config = fuse_config("thesis-a", {"method": "ume"})
    assert (config.method, config.text, config.image, config.lr) == ("ume", "lstm", "vgg16", 2e-5)
    with pytest.raises(UsageError, match="several text"):
        fuse_config("thesis-b", {"method": "ume"})


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[settings]\nepochs = 3\nmethods = ["ume"]\nseeds = [4, 5]\n')
    config = compare_config(str(file), {})
    assert (config.epochs, config.methods, config.seeds) == (3, ("ume",), (4, 5))
    assert fuse_config(str(file), {}).method == "ume"


def test_facts_of_stores(tmp_path: Path) -> None:
    assert compare_config("thesis-b", {}).facts == {"image": {"image_size": 384}}
    assert fuse_config("thesis-a", {"method": "ume"}).facts == {"image": {"image_size": 384}}
    file = tmp_path / "mine.toml"
    file.write_text("[settings]\nfacts = {image = 384}\n")
    with pytest.raises(UsageError, match="MODALITY"):
        load_recipe(str(file))


@pytest.mark.parametrize(
    "text", ["[settings", "[settings]\nepoch = 3\n", '[[figures]]\nmethod = "ume"\n', '[settings]\nout = "x"\n']
)
def test_broken_recipes_are_refused_in_words(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match="not a recipe"):
        load_recipe(str(file))


def test_an_unknown_recipe_suggests_the_near_one() -> None:
    with pytest.raises(UnknownName, match="thesis-a"):
        load_recipe("thesis-1")
