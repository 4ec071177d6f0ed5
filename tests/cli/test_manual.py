"""Every command's manual page: whole, in groups, within the width, with examples that the tool takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
import typer.main

from tests.docs.pages import parse
from umecache.cli.app import build, run
from umecache.cli.manual import EPILOGUE, GROUPS, page, parts


def _walk(command: Any, context: Any) -> Iterator[tuple[str, Any, Any]]:
    yield context.command_path, command, context
    for name, inner in getattr(command, "commands", {}).items():
        yield from _walk(inner, inner.make_context(name, [], parent=context, resilient_parsing=True))


ROOT = typer.main.get_command(build())
COMMANDS = list(_walk(ROOT, ROOT.make_context("umecache", [], resilient_parsing=True)))
LEAVES = [each for each in COMMANDS if not hasattr(each[1], "commands")]


def _ids(each: tuple[str, Any, Any]) -> str:
    return each[0]


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("each", COMMANDS, ids=_ids)
def test_every_page(each: tuple[str, Any, Any], columns: int) -> None:
    path, command, context = each
    text = re.sub(r"\x1b\[\d+m", "", page(command, context, columns))
    assert text.startswith(f"Usage: {path} [OPTIONS]")
    # A command is not torn in the middle of a word, however narrow the terminal.
    folded = [line for line in text.splitlines() if columns >= 80 or not re.match("  umecache|      --", line)]
    assert max(map(len, folded)) <= columns
    assert "\n\n\n" not in text and not re.search(r"[ \t]$", text, re.M)
    assert not re.search(
        r"[{}`]|<\w|\bNone\b|\[required\]|default:",
        " ".join(text.split()).replace('[{"question_id": 1, "answer": "yes"}, ...]', ""),
    )
    for title in EPILOGUE:
        assert text.count(f"\n{title}\n") == 1
    for param in command.get_params(context):
        said = [
            line
            for line in text.splitlines()
            if re.match(rf"  (-\w, )?({'|'.join(map(re.escape, param.opts))})(?![-\w])", line)
        ]
        assert len(said) == 1 or param.param_type_name == "argument", param.opts


@pytest.mark.parametrize("each", COMMANDS, ids=_ids)
def test_everything_is_said(each: tuple[str, Any, Any]) -> None:
    _, command, context = each
    assert parts(command)[0].endswith(".")
    for param in command.get_params(context):
        assert re.search(r"\w{2}", re.sub(r"Default: .*", "", param.help or "")), param.name
        if getattr(param, "multiple", False):
            assert "epeatable" in param.help or "per model" in param.help or "MODEL" in param.help, param.name


@pytest.mark.parametrize("each", LEAVES, ids=_ids)
def test_examples_are_taken(each: tuple[str, Any, Any]) -> None:
    path, command, _ = each
    examples = parts(command)[2]
    assert any(line.startswith(path) for line in examples)
    for line in examples:
        words = shlex.split(line.partition(" > ")[0])
        assert words[0] == "umecache"
        parse(words[1:])


@pytest.mark.parametrize("each", [each for each in LEAVES if each[1].name in GROUPS], ids=_ids)
def test_groups_hold_every_option(each: tuple[str, Any, Any]) -> None:
    _, command, context = each
    grouped = " ".join(GROUPS[command.name].values()).split()
    assert {param.name for param in command.get_params(context)} <= set(grouped)
    assert len(grouped) == len(set(grouped))


def test_a_long_example_goes_on_behind_a_backslash() -> None:
    (found,) = [each for each in LEAVES if each[0] == "umecache store import"]
    text = page(found[1], found[2], 80)
    assert " \\\n      --store stores/updn/val" in text
    (line,) = parts(found[1])[2]
    shown = text.split("Examples")[1].split("\n\n")[0].partition("\n")[2]
    assert shlex.split(shown.replace("\\\n", "")) == shlex.split(line)


def test_pipes_get_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fuse", "--help"]) == 0
    assert run([]) == 2
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert "Examples\n  umecache fuse" in captured.out
