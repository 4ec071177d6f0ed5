"""The shell blocks of every page are run, page by page, as somebody would who follows them.

What stands in for what a laptop has not is in the tables below; what they leave out has a reason there and is still on
the pages, so that the tables can't rot. Benchmarks, make targets and installers are looked up, not run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file

from tests.docs.laptop import RUN, Laptop, lacking, undrawn
from tests.docs.pages import DOCS, PAGES, ROOT, SHELL, UNSET, Line, blocks, lines, parse, play
from tests.encoders import small_timm
from tests.encoders.checkpoints import write_checkpoint
from umecache.home import stores_home

STAND_INS = {
    **dict.fromkeys(("bert", "deberta-v3", "minilm"), "sample-text"),
    **dict.fromkeys(("vit", "mobilenetv2", "vgg16"), "sample-image"),
    "wav2vec2": "sample-audio",
}
"""Encoders whose weights would come from the network."""

NETWORK, HOURS, ELSEWHERE = "needs the network", "takes hours", "run by another test"
NOT_RUN = {
    "umecache data get vqa-v2": NETWORK,
    "umecache data get vqa-v2 --split train,val --parts questions,annotations": NETWORK,
    "umecache data get vqa-v2 --split test-dev --out /shared/vqa-v2": NETWORK,
    "umecache data get vqa-v2 --base-url http://mirror.example/vqa": NETWORK,
    "umecache extract --model timm:convnext_tiny.fb_in1k": NETWORK,
    "umecache extract --model vgg16 --weights vgg16-397923af.pth": NETWORK,
    "umecache extract --model ./modern.py:ENTRY": NETWORK,
    "umecache extract --recipe thesis-a": HOURS,
    "umecache compare --recipe thesis-a": HOURS,
    "umecache compare --recipe thesis-a --lr auto": HOURS,
    # tests/cli/test_sharing_page.py: from a server on this machine.
    "umecache fuse --text minilm --image s3://bucket/vit-1a2b3c4d --limit 2000": ELSEWHERE,
    "umecache doctor": ELSEWHERE,  # tests/doctor: each of its checks
    "umecache --install-completion": "writes into the shell's own start file",
}

LONGER: dict[str, tuple[str, ...]] = {
    "fuse": ("--epochs", "1", "--width", "8"),
    "compare": ("--epochs", "1", "--width", "8", "--seeds", "1"),
    "pretrain": ("--epochs", "1", "--width", "8"),
    "report": ("--rounds", "100"),
    "explain": ("--faithfulness", "2"),
}
"""Options that make a command short: in place of what the page says, or added."""

WORDS = {
    "DIR": "vqa-v2",
    "113000,113002": "81000,81001",  # questions of the data
    "-1,-4": "-1,-2",  # the stand-ins are not so deep
    "epochs=3": "epochs=1",
    "dim=1024": "dim=32",
    "swin": "efficientnet",  # with random weights
}
"""What a reader puts in, and what would take long."""

SHORTER = {"--images 300": "--images 100", "--limit 8000": "--limit 30", "--lr auto": "--lr auto --lr-grid 1e-3"}


LEAVES = {
    "explain.md": ("umecache-explain/explain.json",),
    "fuse.md": ("runs/ume-pretrained/pretrained.safetensors", f"runs/{RUN}/results_test-dev.json"),
    "many-gpus.md": ("lab/ume/runs/vqa-v2/first/report.html",),
    "results.md": ("daquar-heldout/dataset.toml",),
    "sharing.md": ("few/manifest.json", "lab/out/vit/README.md", "updn/val/manifest.json"),
    "start.md": ("runs/product/run.json",),
    "stores.md": ("C/index.h5",),
}
"""What there is at the end in the folder of whoever follows a page."""


def listed(page: Path) -> list[Line]:
    return [line for block in blocks(page, *SHELL) for line in lines(block)]


LINES = [(page, line) for page in PAGES for line in listed(page)]


@pytest.mark.parametrize("page", [page for page in PAGES if listed(page)], ids=lambda page: page.name)
def test_what_is_typed_works(page: Path, laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    undrawn(monkeypatch)
    desk = laptop.sit_down(page, monkeypatch)
    prepare(laptop, desk)
    typed = listed(page)
    local = [line.typed.replace("/lab/", f"{desk}/lab/") for line in typed]
    calls = play(
        local,
        {
            **UNSET,
            "PACKAGE": str(desk / "my-package"),
            "MINILM": str(desk / "my-bert"),
            "MOBILENET": str(desk / "mobilenet.safetensors"),
        },
    )
    for number, line in enumerate(typed):
        if line.typed in NOT_RUN:
            continue
        for program, *words in calls.get(number, []):
            if program != "umecache":
                LOOK[program](words)
                continue
            known = quickly(words, page)
            status, said = laptop.do(*known)
            assert status == 0, f"{line.typed}\nas {known}\n{said}"
            assert lacking(line.shown, said) == [], f"{line.typed} printed:\n{said}"
    assert [name for name in LEAVES.get(page.name, ()) if not (desk / name).exists()] == []


def prepare(laptop: Laptop, desk: Path) -> None:
    """Checkpoints that the pages take from local files, small."""
    (desk / "lab").mkdir()
    made = laptop.root / "checkpoints"
    if not made.exists():
        write_checkpoint(made / "my-bert", "bert")
        write_checkpoint(made / "deberta-v3-base", "deberta-v2")
        small_timm.write_folder(made / "vit-checkpoint", "vit_base_patch16_384")
        state = timm.create_model("mobilenetv2_100", pretrained=False, num_classes=0).state_dict()
        save_file(state, made / "mobilenet.safetensors")
    for name in ("my-bert", "deberta-v3-base", "mobilenet.safetensors"):
        (desk / name).symlink_to(made / name)
    (desk / "my-package").mkdir()
    (desk / "my-package/model").symlink_to(made / "my-bert")
    for there, what in (
        ("checkpoints/my-bert", "my-bert"),
        ("vit-checkpoint", "vit-checkpoint"),
        ("shared/weights/mobilenetv2_100.safetensors", "mobilenet.safetensors"),
    ):
        link = desk.parent / there
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(made / what)


def quickly(words: list[str], page: Path) -> list[str]:
    """The command with stand-ins, and short."""
    text = "\x1f".join(words)
    for long, short in SHORTER.items():
        text = text.replace(long.replace(" ", "\x1f"), short.replace(" ", "\x1f"))
    words = [WORDS.get(word, word) for word in text.split("\x1f")]
    if "lstm" in words:
        words = [str(trained()) if word == "FOLDER" else word for word in words]
        words += [] if "--model-arg" in words else ["--model-arg", "epochs=1"]
    if words[:3] == ["extract", "--model", "bert"] and words[-1] == "random":
        words += ["--model-arg", "num_hidden_layers=1"]
    local = "--weights" in words or page.name == "results.md"
    words = words if local and words[0] != "compare" else [stand_in(word) for word in words]
    if local and words[0] in ("extract", "compare") and "--limit" not in words:
        words += ["--limit", "30" if page.name == "results.md" else "6"]
    if "--sound" in words:
        words += ["--images", "100"]
    wanted = LONGER.get(words[0], ())
    for option, value in zip(wanted[::2], wanted[1::2], strict=True):
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    return words


def trained() -> Path:
    """Where the page's first command left the encoder that it trained."""
    (vocabulary, *_) = sorted(stores_home().rglob("vocab.json"))
    return vocabulary.parent


def stand_in(word: str) -> str:
    """`bert`, `bert@-4`, `text=bert`, `bert:depth=2`: the encoder's name in them."""
    parts = re.split(r"([=@:])", word)
    return "".join(STAND_INS.get(part, part) for part in parts).replace("@-1,-4", "@-1,-2").replace("@-4", "@-2")


@pytest.mark.parametrize("typed", sorted(NOT_RUN))
def test_what_is_not_run_is_still_on_a_page_and_parses(typed: str) -> None:
    assert typed in {line.typed for _, line in LINES}
    assert len(NOT_RUN) <= 13, "this list stays short"
    parse(typed.split()[1:])


# --- programs of others: what they are asked for exists -------------------------------------------------------------


def look_at_script(words: list[str]) -> None:
    """The script is there, and has every option."""
    if words[0] == "-c":
        return
    source = (ROOT / words[0]).read_text("utf-8")
    for word in words:
        assert not word.startswith("--") or f'"{word}"' in source, word


def look_at_extra(words: list[str]) -> None:
    """Extras that are installed by name."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for word in words:
        if match := re.fullmatch(r"umecache\[(.*)\]", word):
            assert match[1] in extras


def look_at_target(words: list[str]) -> None:
    """Targets of the Makefile."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert all(re.search(rf"^{word}:", makefile, re.M) for word in words)


def look_at_launch(words: list[str]) -> None:
    """What a launcher starts parses; tests/extraction/test_processes.py starts it."""
    at = words.index("-m")
    assert words[at + 1] == "umecache"
    parse(words[at + 2 :])


def look_at_job(words: list[str]) -> None:
    """A job script that is on the page."""
    assert Path(words[-1]).read_text("utf-8").startswith("#!/bin/bash")


def make_folder(words: list[str]) -> None:
    Path(words[-1]).mkdir(parents=True)


def look_at_folder(words: list[str]) -> None:
    assert Path(words[-1]).is_dir()
    if words[0].isdigit():
        Path(words[-1]).chmod(int(words[0], 8))
        assert Path(words[-1]).stat().st_mode & 0o7777 == int(words[0], 8)


LOOK = {
    "python": look_at_script,
    "pip": look_at_extra,
    "make": look_at_target,
    "torchrun": look_at_launch,
    "accelerate": look_at_launch,
    "mkdir": make_folder,
    "chgrp": look_at_folder,
    "chmod": look_at_folder,
    "hf": lambda words: None,
    "sbatch": look_at_job,
    "jq": lambda words: None,
}


def test_job_scripts_are_bash(tmp_path: Path) -> None:
    scripts = [block.text for page in PAGES for block in blocks(page, "bash") if block.text.startswith("#!")]
    assert scripts
    for text in scripts:
        assert "#SBATCH" in text
        subprocess.run([shutil.which("bash") or "bash", "-n"], input=text, text=True, check=True)


def test_outputs_are_compared() -> None:
    assert sum(bool(line.shown) for _, line in LINES) >= 4
    assert lacking(["  train: 6,142 questions on 715 images"], "x\n train: 400 questions on  80 images") == []
    assert lacking(["/home/me/data/x-0.1"], "/tmp/a/data/y-0.1") == []
    assert lacking(["  train: 6,142 questions"], "train: 4 answers") != []
    assert (DOCS / "start.md").is_file()
