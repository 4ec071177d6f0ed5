"""Every command on the pages is one that the tool takes, every link leads somewhere; the first runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from umecache.cli.app import build

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in [ROOT / "README.md", *DOCS.glob("*.md")] if not page.name.startswith("reference-"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
ASIDES = {"|", "&&", ";", ">", "2>", "#"}


def _commands(page: Path) -> Iterator[list[str]]:
    """The words after `umecache` of every command line in the page's shell blocks."""
    for language, block in BLOCK.findall(page.read_text("utf-8")):
        if language not in ("bash", "console"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if language == "console" and not line.startswith("$ "):
                continue  # what the command printed
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words[:1] == ["umecache"] and "..." not in words:
                end = next((at for at, word in enumerate(words) if word in ASIDES), len(words))
                yield words[1:end]


def _parse(words: list[str]) -> None:
    """Click's own parser, down to the command; nothing is run."""
    command: Any = typer.main.get_command(build())
    context = command.make_context("umecache", list(words), resilient_parsing=True)
    if all(word.startswith("--") for word in words):
        return  # umecache --version
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None, f"no such command: {rest}"
        parser = command.make_parser(command.context_class(command, info_name=name))
        if not hasattr(command, "commands"):
            parser.parse_args(args=list(rest))
            return
        context = command.make_context(name, list(rest), parent=context, resilient_parsing=True)


COMMANDS = [(page.name, words) for page in PAGES for words in _commands(page)]


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)}"[:90] for page, words in COMMANDS]
)
def test_commands_are_ones_that_the_tool_takes(page: str, words: list[str]) -> None:
    _parse(words)


def test_an_unknown_flag_would_be_seen() -> None:
    for wrong in (["fuse", "--methd", "ume"], ["store", "lst"], ["store", "gc", "--forse"]):
        with pytest.raises(Exception, match=r"(?i)no such"):
            _parse(wrong)
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", there.read_text("utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target


def test_every_page_is_in_the_navigation_and_on_the_first_page() -> None:
    pages = {page.name for page in DOCS.glob("*.md") if not page.name.startswith("reference-")}
    text = (ROOT / "zensical.toml").read_text("utf-8")
    assert set(re.findall(r'"([\w-]+\.md)"', text)) - {"reference-commands.md", "reference-python.md"} == pages
    assert pages - {"index.md"} <= set(re.findall(r"\(([\w-]+\.md)\)", (DOCS / "index.md").read_text("utf-8")))
    tomllib.loads(text)


def test_ten_minutes_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMECACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for words in _commands(DOCS / "start.md"):
        if words in (["doctor"], ["--install-completion"]):
            continue  # looks at this machine, and may rightly say no; writes into the shell's start file
        short = ["100" if word == "300" else word for word in words]
        done = subprocess.run([sys.executable, "-m", "umecache", *short], capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stderr)
    (report,) = (tmp_path / "home" / "runs").rglob("report.html")
    assert report.stat().st_size > 10_000
