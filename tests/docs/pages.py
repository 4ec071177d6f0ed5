"""The pages of the documentation, read as a reader would: blocks, command lines, the words of a command.

    for block in blocks(DOCS / "start.md", "bash", "console"):
        lines(block)                                    # what is to be typed, with what is shown below it
    play(typed, environment)                            # bash's own idea of the words; nothing is run

A shell block is expanded by bash itself (quotes, variables, backslashes, `&&`, `$(...)`), with functions in place of
the programs that write down how they were called.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer.main

from umecache.cli.app import build

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in [ROOT / "README.md", *DOCS.glob("*.md")] if not page.name.startswith("reference-"))
SHELL = ("bash", "console")
PROGRAMS = (
    "umecache",
    "python",
    "pip",
    "make",
    "hf",
    "torchrun",
    "accelerate",
    "jq",
    "mkdir",
    "chgrp",
    "chmod",
    "sbatch",
)
"""Every program that the pages name."""

_BLOCK = re.compile(r"(?:^`([\w./-]+)`:\n\n)?^```(\w*)\n(.*?)^```", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        saved_as: the file that the page says it is, if it says so on the line above.
    """

    page: Path
    language: str
    text: str
    saved_as: str | None


@dataclass(frozen=True, slots=True)
class Line:
    """What is typed, on one line, and what a `console` block shows below it."""

    typed: str
    shown: tuple[str, ...] = ()


def blocks(page: Path, *languages: str) -> list[Block]:
    """The page's blocks in these languages, in their order."""
    found = [Block(page, match[2], match[3], match[1]) for match in _BLOCK.finditer(page.read_text("utf-8"))]
    return [block for block in found if block.language in languages]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return _BLOCK.sub("", page.read_text("utf-8"))


def lines(block: Block) -> list[Line]:
    """The lines of a shell block; comments alone are none."""
    found: list[Line] = []
    open_ended = False
    for raw in block.text.splitlines():
        if block.language == "console" and not open_ended and not raw.startswith("$ "):
            found[-1] = Line(found[-1].typed, (*found[-1].shown, raw))
            continue
        part = raw if open_ended else raw.removeprefix("$ ")
        if open_ended:
            found[-1] = Line(f"{found[-1].typed.removesuffix(chr(92)).rstrip()} {part.strip()}")
        elif part.strip() and not part.startswith("#"):
            found.append(Line(part))
        open_ended = raw.endswith("\\")
    return [Line(re.sub(r"\s+# .*", "", line.typed), line.shown) for line in found]


def commands(page: Path) -> list[list[str]]:
    """The words of every `umecache` command on the page."""
    typed = [line.typed for block in blocks(page, *SHELL) for line in lines(block)]
    return [call[1:] for calls in play(typed, UNSET).values() for call in calls if call[0] == "umecache"]


def play(typed: list[str], environment: Mapping[str, str]) -> dict[int, list[list[str]]]:
    """How each line calls the programs, by its number.

    Raises:
        AssertionError: bash stopped at a line: an unknown program, an unset variable.
    """
    functions = "".join(
        # One printf for one call: both ends of a pipe call at once, and parts of two calls would mix.
        f'{name}() {{ printf \'%s\\x1f\' "$LINE" {name} "$@" $\'\\x1e\' >> "$CALLS"; {_ANSWERS.get(name, ":")}; }}\n'
        for name in PROGRAMS
    )
    script = "\n".join(f"LINE={number}\n{line}" for number, line in enumerate(typed))
    with tempfile.NamedTemporaryFile() as calls:
        done = subprocess.run(
            ["bash", "-e", "-u", "-o", "pipefail", "-c", functions + script],
            env={"PATH": "", "CALLS": calls.name, **environment},
            capture_output=True,
            text=True,
            executable=shutil.which("bash"),
        )
        assert done.returncode == 0, f"{done.stderr}\nin:\n{script}"
        said = calls.read().decode()
    found: dict[int, list[list[str]]] = {}
    for call in said.split("\x1e\x1f")[:-1]:
        number, *words = call.split("\x1f")[:-1]
        found.setdefault(int(number), []).append(words)
    return found


UNSET = {"MINILM": "MINILM", "MOBILENET": "MOBILENET", "HOME": "/home/me"}
"""What the pages leave to the reader to set."""

_ANSWERS = {
    "jq": "echo concat,product",  # the names of all methods, on one page
    "python": 'echo "${PACKAGE:-FOLDER}"',  # where a package lies, on another
}


@functools.cache
def _tool() -> Any:
    return typer.main.get_command(build())


def parse(words: list[str]) -> None:
    """Click's own parser, down to the command; nothing is run."""
    command = _tool()
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


def links(page: Path) -> Iterator[str]:
    """Where the page's links lead."""
    yield from re.findall(r"\]\(([^)\s]+)\)", prose(page))
