"""TAB: what each shell is answered, from the homes as they are, without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_house import HEAVY
from umecache.cli.app import run
from umecache.fusion.catalogue import METHODS

Shell = Callable[[str], dict[str, str]]
Offered = Callable[..., list[str]]


def bash(line: str) -> dict[str, str]:
    """The environment in which bash asks what the last word of `line` can become; likewise the others."""
    words = line.split(" ")
    return {"_UMECACHE_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}


def zsh(line: str) -> dict[str, str]:
    return {"_UMECACHE_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": line}


def fish(line: str) -> dict[str, str]:
    asked = {"_UMECACHE_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return {**asked, "_TYPER_COMPLETE_ARGS": line}


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Offered:
    """What a shell is told about a line."""

    def ask(line: str, shell: Shell = bash) -> list[str]:
        with monkeypatch.context() as patch:
            for name, value in shell(line).items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                run([])
        captured = capsys.readouterr()
        assert not ended.value.code and not captured.err
        return [line for line in captured.out.splitlines() if line]

    return ask


def test_methods(offered: Offered) -> None:
    assert offered("umecache fuse --method um") == ["ume", "ume-res"]
    assert set(offered("umecache pretrain --method ")) >= set(METHODS)
    assert offered("umecache compare --methods ume,um") == ["ume,ume-res"]  # ume stands there already
    assert offered("umecache fuse --method ./mine.py") == []  # files are the shell's


def test_encoders(offered: Offered) -> None:
    assert "deberta-v3" in offered("umecache extract --model deb")
    assert {"bert", "vit"} <= set(offered("umecache plan --model vit --model "))


def test_data_and_splits(offered: Offered, private_home: Path, tiny: list[str]) -> None:
    shutil.copytree(tiny[1], private_home / "data/tiny")
    assert offered("umecache fuse --data ") == ["tiny", "vqa-v2"]
    assert offered("umecache extract --data tiny --split ") == ["train", "val"]
    assert offered(f"umecache extract --data {tiny[1]} --split train,") == ["train,val"]
    assert offered("umecache extract --data nowhere --split test") == ["test-dev", "test"]
    assert offered("umecache data info ti") == ["tiny"]


def test_stores_of_the_data_that_is_named(offered: Offered, private_home: Path, tiny: list[str]) -> None:
    assert offered("umecache fuse --text ") == []  # vqa-v2 has none
    line = " ".join(["umecache fuse", *tiny])
    assert offered(f"{line} --text ") == ["bert"]
    assert offered(f"{line} --image v") == ["vit"]
    shutil.copytree(private_home / "stores/tiny/vit-00000000", private_home / "stores/tiny/vit-11111111")
    assert offered(f"{line} --image ") == ["vit-00000000", "vit-11111111"]  # "vit" would be refused
    assert offered("umecache store info tiny/b") == ["tiny/bert-00000000/train", "tiny/bert-00000000/val"]
    assert "tiny/bert-00000000" in offered("umecache store push tiny/")


def test_stores_of_several_homes_and_unreadable_ones(
    offered: Offered, private_home: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (private_home / "stores/tiny/bert-00000000/train/manifest.json").write_text("{")
    (tmp_path / "own/stores/tiny/roberta-22222222/val").mkdir(parents=True)
    (tmp_path / "own/stores/tiny/roberta-22222222/val/manifest.json").write_text('{"modality": "text"}')
    monkeypatch.setenv("UMECACHE_HOME", os.pathsep.join([str(tmp_path / "own"), str(private_home), "/nowhere"]))
    assert offered(" ".join(["umecache fuse", *tiny, "--text "])) == ["roberta", "bert"]


def test_runs(offered: Offered, private_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = private_home / "runs"
    for path, mark in (("a/ume-1", "run.json"), ("a/compare-2", "compare.json"), ("a/compare-2/runs/ume", "run.json")):
        (runs / path).mkdir(parents=True)
        (runs / path / mark).touch()
    assert offered("umecache predict ") == [
        str(runs / "a/compare-2"),
        str(runs / "a/compare-2/runs/ume"),
        str(runs / "a/ume-1"),
    ]
    assert offered(f"umecache explain {runs}/a/u") == [str(runs / "a/ume-1")]
    assert offered("umecache report elsewhere/") == []
    monkeypatch.setenv("HOME", str(private_home.parent))
    assert offered(f"umecache predict ~/{private_home.name}/runs/a/u") == [f"~/{private_home.name}/runs/a/ume-1"]


def test_recipes(offered: Offered) -> None:
    assert offered("umecache compare --recipe t") == ["thesis-a", "thesis-b"]


def test_zsh_and_fish_also_say_what_a_word_is(offered: Offered) -> None:
    (line,) = offered("umecache fuse --method ume-", zsh)
    assert line.startswith("_arguments") and '"ume-res":"' in line
    (told,) = offered("umecache fuse --method ume-", fish)
    name, words = told.split("\t")
    assert name == "ume-res" and words == METHODS["ume-res"].summary


@pytest.mark.parametrize(
    ("shell", "says"), [("bash", "complete -o default"), ("zsh", "#compdef umecache"), ("fish", "complete --command")]
)
def test_what_is_installed(offered: Offered, shell: str, says: str) -> None:
    asked = {"_UMECACHE_COMPLETE": f"source_{shell}"}
    assert says in "\n".join(offered("", lambda line: asked))


@pytest.mark.parametrize("shell", [bash, zsh, fish])
def test_nothing_heavy_is_loaded(shell: Shell, tiny: list[str]) -> None:
    code = "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
    code += "from umecache.cli.app import main; main()"
    environment = {**os.environ, **shell(" ".join(["umecache fuse", *tiny, "--text "]))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "bert" in done.stdout
    assert not {name.partition(".")[0] for name in done.stderr.split()} & HEAVY
