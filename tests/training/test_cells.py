"""Pairs of stores: every one a pass, and no two that a table would take for each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from umecache.errors import UsageError
from umecache.reporting import Silent
from umecache.training.compare import compare
from umecache.training.config import CompareConfig
from umecache.training.grid import find_cells
from umecache.training.questions import load_questions


def config(world: Any, out: Path, *images: Path) -> CompareConfig:
    return CompareConfig(
        data=str(world.data),
        text=(str(world.text),),
        image=tuple(map(str, images)),
        methods=("concat",),
        seeds=(0,),
        width=8,
        epochs=1,
        out=str(out),
    )


@pytest.fixture
def larger(world: Any, kit: Any, tmp_path: Path) -> Path:
    """Stores of the same model under another recipe."""
    for name in ("train", "val"):
        items = kit.image_items(world.splits[name])
        kit.store(tmp_path / "larger" / name, "image", items, recipe={"image_size": 384})
    return tmp_path / "larger"


def test_two_stores_of_one_model_are_two_rows(world: Any, larger: Path, tmp_path: Path) -> None:
    done = compare(config(world, tmp_path / "c", world.image, larger))
    images = [row["image"] for row in done.document["rows"]]
    assert len(set(images)) == 2 and all(image.startswith("vit-") and len(image) == 12 for image in images)
    folders = {Path(row["run"]).parent.name for row in done.document["rows"]}
    assert folders == {f"bert+{image}" for image in images}


def test_models_that_differ_keep_their_names(world: Any, tmp_path: Path) -> None:
    asked = config(world, tmp_path / "c", world.image)
    ((text, image),) = find_cells(asked, load_questions(asked), Silent())
    assert (text.model, image.model) == ("bert", "vit")


def test_the_same_features_twice_are_refused(world: Any, kit: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="named twice"):
        compare(config(world, tmp_path / "c", world.image, world.image))
    assert not (tmp_path / "c").exists()
