"""Every Python block of every page is executed, page by page, in the order and the folder of a reader."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytest
import torch

from tests.docs.laptop import RUN, Laptop, undrawn
from tests.docs.pages import PAGES, ROOT, blocks

INSTEAD = {
    # One file cannot be both formats; nor is there a bucket.
    "stores/vqa-v2/vit-1a2b3c4d/val/index.h5": "stores/hdf5/index.h5",
    "s3://bucket/vit-1a2b3c4d/val": "stores/vqa-v2/vit-1a2b3c4d/val",
    # A question of the sample, and a training of seconds.
    "262148000": "81000",
    'lr="auto", seeds=(0, 1, 2)': 'lr="auto", lr_grid=(1e-3,), seeds=(0,), epochs=1, width=8',
    "seeds=2, epochs=2, width=32": "seeds=2, epochs=1, width=8",
    "epochs=3, width=64": "epochs=1, width=8",
}
"""What a snippet says -> what is run in its place."""

WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_snippets_run(
    page: Path, laptop: Laptop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undrawn(monkeypatch)
    desk = laptop.sit_down(page, monkeypatch)
    monkeypatch.syspath_prepend(str(desk))
    known = given(desk) if page.name == "fuse.md" else {}
    for number, block in enumerate(blocks(page, "python")):
        code = block.text
        for said, instead in INSTEAD.items():
            code = code.replace(said, instead)
        known["__name__"] = f"snippet{number}"
        exec(compile(code, f"{page.name}, snippet {number + 1}", "exec"), known)
    CHECKS.get(page.name, lambda known, said: None)(known, capsys.readouterr().out)
    for saved in ("mine", "modern", "letters"):
        sys.modules.pop(saved, None)


def given(desk: Path) -> dict[str, Any]:
    """What the page's snippet takes as given: features of two questions."""
    facts = json.loads((desk / "runs" / RUN / "run.json").read_text("utf-8"))
    mask_BT = torch.ones(2, 3, dtype=torch.bool)
    known: dict[str, Any] = {}
    for name, dim in facts["model"]["dims"].items():
        known |= {f"{name}_BTD": torch.zeros(2, 3, dim), f"{name}_mask_BT": mask_BT}
    known["features"] = {name: (known[f"{name}_BTD"], mask_BT) for name in facts["model"]["dims"]}
    return known


def check_api(known: dict[str, Any], said: str) -> None:
    assert 0 < known["total"] == len(known["val"])
    assert [row.method for row in known["table"].rows] == ["text-only", "concat", "ume"]
    assert "sample-image" in said


def check_format(known: dict[str, Any], said: str) -> None:
    i, start, length = known["i"], known["start"], known["length"]
    assert known["hidden_states"].shape == (length[i], 6)
    assert np.array_equal(known["file"]["tokens"][start[i] : start[i] + length[i]], known["hidden_states"])


def check_method(known: dict[str, Any], said: str) -> None:
    assert hasattr(known["TestMine"], "make")
    assert any(name.startswith("test_") for name in dir(known["TestMine"]))


def check_stores(known: dict[str, Any], said: str) -> None:
    assert known["tokens_BTD"].shape == (3, known["mask_BT"].shape[1], known["store"].dim)


CHECKS = {
    "api.md": check_api,
    "own-method.md": check_method,
    "store-format.md": check_format,
    "stores.md": check_stores,
}


def test_what_stands_in_is_still_on_the_pages() -> None:
    text = "".join(block.text for page in PAGES for block in blocks(page, "python"))
    assert [said for said in INSTEAD if said not in text] == []


def test_every_other_block_is_well_formed() -> None:
    for page in PAGES:
        for block in blocks(page, "json"):
            json.loads(block.text)
        for block in blocks(page, "toml"):
            tomllib.loads(block.text)
        assert not blocks(page, ""), f"{page.name}: a block says its language"


def test_names_in_the_prose_exist() -> None:
    """`umecache.x.y` on a page is a module, or something in one."""
    for page in PAGES:
        for name in set(re.findall(r"`(umecache(?:\.\w+)+)`?", page.read_text("utf-8"))):
            if name not in ENTRY_POINTS:
                resolve_name(name)


ENTRY_POINTS = {"umecache.encoders", "umecache.fusions", "umecache.store_formats"}
"""Groups of entry points, which look like modules."""


def test_files_in_the_prose_exist() -> None:
    """`umecache/x/y.py` and its kin are files of the repository."""
    for page in PAGES:
        for name in re.findall(r"`((?:umecache|tests|benchmarks|scripts)/[\w/.-]+\.\w+)`", page.read_text("utf-8")):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
