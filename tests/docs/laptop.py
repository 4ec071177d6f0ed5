"""A reader's machine in small: a home with data, stores and runs under the names that the pages use.

    laptop = Laptop(tmp_path)              # once for all pages; a few seconds
    laptop.sit_down(page, monkeypatch)     # in a folder of the page's own, where its files lie

The sample's pictures stand for every data set, the two sample encoders for every encoder that would come from the hub.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.docs.pages import Block, blocks
from tests.stores.toy import Toy, write
from umecache.cli.app import run

DATA = ("vqa-v2", "daquar", "easy-vqa", "vqa-v2-mini", "my-data", "sample", "daquar-heldout")
METHODS = "text-only,concat,ume,ume-res"
COMPARISON = "vqa-v2/compare-20260101-120000"
RUN = "ume-20260101-120000"
QUICK = ("--epochs", "1", "--width", "8", "--batch-size", "32")


class Laptop:
    """Home and working folders below one folder."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.home = root, root / "home"
        monkeypatch.setenv("UMECACHE_HOME", str(self.home))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.chdir(root)
        undrawn(monkeypatch)
        self._data()
        self._stores()
        self._runs()

    def _data(self) -> None:
        self.do("data", "sample", "drawn", "--images", "100")
        drawn = self.root / "drawn"
        for name in DATA:
            folder = self.home / "data" / name
            folder.mkdir(parents=True)
            for file in drawn.iterdir():
                if name != "daquar" or "val" not in file.name:  # DAQUAR has no val split
                    (folder / file.name).symlink_to(file)
        self.do("data", "sample", "clips", "--images", "100", "--sound")
        (self.home / "data/clips").symlink_to(self.root / "clips")
        questions = json.loads((drawn / "questions_val.json").read_text("utf-8"))["questions"]
        hidden = {"questions": questions[: len(questions) // 2]}  # its answers are not public
        (self.home / "data/vqa-v2/questions_test-dev.json").write_text(json.dumps(hidden))

    def _stores(self) -> None:
        self.do("extract", "--data", "drawn", "--model", "sample-text", "--model", "sample-image")
        made = self.home / "stores/drawn"
        for name in DATA:
            shutil.copytree(made, self.home / "stores" / name)
        # Named ids, as snippets use them; and the same in the other format.
        self.toy = Toy.make(ids=40, distinct=40, missing=0, broken=0, ragged=False)
        self.toy.ids[:] = range(3, 43)
        for place in ("vqa-v2/vit-1a2b3c4d", "vqa-v2/minilm-1a2b3c4d", "daquar/minilm-056b7fa6"):
            for split in ("train", "val"):
                write(self.root / "toys" / place / split, self.toy)
        write(self.root / "toys/hdf5", self.toy, format="hdf5")
        # Two layers of one encoder.
        self.do("extract", "--data", "drawn", "--model", "sample-text", "--layers", "-2", "--store", "toys/b")
        shutil.copytree(next(made.glob("sample-text-*")), self.root / "toys/a")

    def _runs(self) -> None:
        out = self.home / "runs" / COMPARISON
        self.do("compare", "--methods", METHODS, "--seeds", "1", *QUICK, "--out", str(out))
        self.comparison = out

    def do(self, *words: str) -> tuple[int, str]:
        """Run a command in this process; its exit status, and all that it said."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = run(list(words))
        return status, said.getvalue()

    def sit_down(self, page: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The page's own folder and home, with all that pages speak of; environment and current folder are set."""
        desk, home = self.root / "desks" / page.stem, self.root / "homes" / page.stem
        monkeypatch.setenv("UMECACHE_HOME", str(home))
        if not desk.exists():
            desk.mkdir(parents=True)
            shutil.copytree(self.home, home, symlinks=True)
            if page.stem in ("stores", "sharing"):  # stores that are named by their path below the home
                shutil.copytree(self.root / "toys", home / "stores", dirs_exist_ok=True)
            self._lay_out(desk)
            for block in blocks(page, "python", "bash"):
                self._save(block, desk)
            for file in (*desk.rglob("run.json"), *desk.rglob("compare.json")):  # they know where their stores are
                file.write_text(file.read_text("utf-8").replace(str(self.home), str(home)), "utf-8")
        monkeypatch.chdir(desk)
        return desk

    def _lay_out(self, desk: Path) -> None:
        picture = next(iter(sorted((self.root / "drawn/images").iterdir())))
        for name in ("kitchen.jpg", "frame.jpg"):
            (desk / name).symlink_to(picture)
        (desk / "clip.wav").symlink_to(next(iter(sorted(self.root.glob("clips/**/*.wav")))))
        shutil.copytree(self.comparison / "runs/ume", desk / "RUN")
        shutil.copytree(self.comparison / "runs/ume", desk / "runs" / RUN)
        shutil.copytree(self.comparison / "runs/ume", desk / "runs/ume-0001")
        for name in ("concat", "ume-res"):
            shutil.copytree(self.comparison / "runs" / name, desk / "runs" / name)
        shutil.copytree(self.comparison, desk / "runs" / COMPARISON)
        shutil.copytree(self.root / "toys", desk / "stores")
        for name in ("A", "B"):
            shutil.copytree(self.root / "toys/daquar/minilm-056b7fa6/val", desk / name)
        shutil.copy(self.comparison / "runs/ume/results_val.json", desk / "results.json")
        (desk / "ids.txt").write_text("\n".join(map(str, self.toy.ids[:3])))
        (desk / "regions").mkdir()
        np.save(desk / "regions/image_7.npy", np.ones((2, 4), np.float32))

    @staticmethod
    def _save(block: Block, desk: Path) -> None:
        if block.saved_as:
            (desk / block.saved_as).write_text(block.text, encoding="utf-8")


def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures: drawing them takes ten times as long as all the rest, and tests/analysis does it."""
    monkeypatch.setattr("umecache.analysis.page._figures", lambda document: {})
    monkeypatch.setattr("umecache.analysis.page._save_all", lambda *arguments: None)
    monkeypatch.setattr("umecache.analysis.explain.heat_panel", lambda *arguments, **named: None)
    monkeypatch.setattr("umecache.analysis.figures.save", lambda figure, folder, name: None)


def loosely(shown: str) -> re.Pattern[str]:
    """What a line of output may look like: other numbers, folders and owners, the same words."""
    shown = re.sub(r"^(\s*[\d.]+ %) .*", r"\1 ANY", shown)  # an answer behind its probability
    shown = re.sub(r" of me$", " of ANY", shown)
    parts = []
    for word in shown.split():
        path = re.search(r"(?<![\w.])/[\w./~-]+", word)
        if path:
            parts.append(re.escape(word[: path.start()]) + r"\S+")
        elif word == "ANY":
            parts.append(r"\S+")
        else:
            pieces = re.split(r"(\d[\d,.]*)", word)
            parts.append("".join(r"\d[\d,.]*" if piece[:1].isdigit() else re.escape(piece) for piece in pieces))
    return re.compile(" ".join(parts))


def lacking(shown: Sequence[str], said: str) -> list[str]:
    """The lines that a page shows and the command did not print."""
    printed = " ".join(said.split())
    return [line for line in shown if line.strip() and not loosely(line).search(printed)]
