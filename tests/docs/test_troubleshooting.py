"""Every message that docs/troubleshooting.md quotes is one that the tool says, here provoked one by one."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.docs.laptop import QUICK, Laptop
from tests.docs.pages import DOCS
from tests.stores.toy import Toy, begin, fill, write
from umecache.cli import app
from umecache.stores.errors import StoreWriteFailed
from umecache.training.head import Head

PAGE = DOCS / "troubleshooting.md"
ROWS = re.findall(r"^\| (`.*?) \|", PAGE.read_text("utf-8").partition("Where no message")[0], re.M)
QUOTES = [quote for row in ROWS for quote in re.findall(r"`([^`]+)`", row)]
FUSE = ("fuse", "--data", "vqa-v2", "--method", "concat", *QUICK)

Provoke = Callable[[Laptop, Path, pytest.MonkeyPatch], str]


def said(laptop: Laptop, *words: str) -> str:
    status, text = laptop.do(*words)
    assert status != 0, text
    return text


def broken_package(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    def command() -> None:
        raise ModuleNotFoundError("No module named 'timm'", name="timm")

    patch.setitem(app.COMMANDS, "models", command_in(patch, command))
    return said(laptop, "models")


def wrong_pair(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    def command() -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    patch.setitem(app.COMMANDS, "models", command_in(patch, command))
    return said(laptop, "models")


def command_in(patch: pytest.MonkeyPatch, command: Callable[[], None]) -> str:
    """A command's address, as the front door names them."""
    command.__doc__ = "Fail."
    patch.setattr("umecache.cli.models.models", command)
    return "umecache.cli.models:models"


def no_text_store(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    shutil.rmtree(at / "home/stores/vqa-v2")
    (at / "home/stores/vqa-v2-first200").mkdir()
    text = said(laptop, *FUSE)
    assert "There are stores of its first questions: --limit 200" in text
    return text


def two_text_stores(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    laptop.do("extract", "--data", "vqa-v2", "--model", "sample-text", "--layers", "-2")
    return said(laptop, *FUSE)


def too_large(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    with pytest.raises(StoreWriteFailed) as refused:
        write(at / "large", dataclasses.replace(Toy.make(), scale=1e5))
    return str(refused.value)


def full_disk(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    patch.setattr("umecache.extraction.space.free_bytes", lambda path: 0)
    return said(laptop, "extract", "--data", "easy-vqa", "--model", "sample-text", "--layers", "-2")


def not_read(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    mine = own_data(laptop, at)
    next(iter(sorted((mine / "images").iterdir()))).write_bytes(b"not a picture")
    return laptop.do("extract", "--data", str(mine), "--model", "sample-image", "--split", "train")[1]


def own_data(laptop: Laptop, at: Path) -> Path:
    return Path(shutil.copytree(laptop.root / "drawn", at / "mine"))


def not_complete(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    toy = Toy.make()
    shards = iter(begin(at / "half", toy).claim())
    fill(next(shards), toy)
    return said(laptop, "store", "verify", str(at / "half"))


def damaged(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    write(at / "s", Toy.make())
    shard = at / "s/tokens/c/0/0"
    shard.write_bytes(b"\xff" + shard.read_bytes()[1:])
    return said(laptop, "store", "verify", str(at / "s"))


def newer(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    write(at / "s", Toy.make())
    file = at / "s/manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format_version": 2}))
    return said(laptop, "store", "info", str(at / "s"))


def fewer_questions(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    for kind in ("text", "image"):
        laptop.do(
            "extract", "--data", "vqa-v2", "--limit", "30", "--model", f"sample-{kind}", "--store", str(at / kind)
        )
    return said(laptop, *FUSE, "--text", str(at / "text"), "--image", str(at / "image"))


def other_questions(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    mine = own_data(laptop, at)
    file = mine / "questions_train.json"
    file.write_text(file.read_text("utf-8").replace("?", " now?"), "utf-8")
    text, image = (next((at / "home/stores/vqa-v2").glob(f"sample-{kind}-*")) for kind in ("text", "image"))
    return said(laptop, "fuse", "--data", str(mine), *FUSE[3:], "--text", str(text), "--image", str(image))


def not_finite(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    head = SimpleNamespace(failure=None, spec=SimpleNamespace(name="ume, seed 0", lr=1.0), history=[])
    Head._check(head, torch.tensor(float("nan")))  # type: ignore[arg-type]
    return str(head.failure)


def no_answers(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    return said(laptop, *FUSE, "--train-split", "test-dev", "--eval-split", "train")


def other_files(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    return said(laptop, *FUSE, "--out", str(laptop.root / "drawn"))


def run_already(laptop: Laptop, at: Path, patch: pytest.MonkeyPatch) -> str:
    return said(laptop, *FUSE, "--out", str(shutil.copytree(laptop.comparison / "runs/ume", at / "ume")))


PROVOKED: dict[str, Provoke] = {
    "The package ... can't be imported.": broken_package,
    "torch and torchvision don't match.": wrong_pair,
    "There is no data folder ...": lambda laptop, at, patch: said(laptop, "data", "info", "nowhere"),
    "... has no text store.": no_text_store,
    "... has 2 text stores: ...": two_text_stores,
    "... is not in the local cache, and the hub can't be reached.": lambda laptop, at, patch: said(
        laptop, "extract", "--data", "vqa-v2", "--model", "hf:nobody/nothing"
    ),
    "The hidden states of ... reach ..., which float16 can't hold.": too_large,
    "The stores need ... GB more": full_disk,
    "... inputs were not read, and are recorded so:": not_read,
    "... is not complete: ... of ... shards.": not_complete,
    "...: DAMAGED": damaged,
    "... has store format 2; this umecache reads formats up to 1.": newer,
    "... are not in ... (first: ...).": fewer_questions,
    "... holds other questions under the ids of the split ...": other_questions,
    "The loss of ... is no longer finite": not_finite,
    "... has no annotations.": no_answers,
    "--out ... holds other files.": other_files,
    "--out ... holds a run already.": run_already,
    "There is no run ...": lambda laptop, at, patch: said(laptop, "predict", "nowhere", "--question", "why?"),
}


def test_every_quoted_message_is_provoked_here() -> None:
    assert set(PROVOKED) == set(QUOTES)


@pytest.mark.parametrize("quote", sorted(PROVOKED))
def test_the_tool_says_so(quote: str, laptop: Laptop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(laptop.home, tmp_path / "home", symlinks=True)
    monkeypatch.setenv("UMECACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    text = " ".join(PROVOKED[quote](laptop, tmp_path, monkeypatch).split())
    pattern = ".*".join(map(re.escape, quote.split("...")))
    assert re.search(pattern, text), text
