"""The door: every command answers for itself, mistakes are one line with a way out."""

from __future__ import annotations

import json

import pytest

from umecache.cli import app
from umecache.cli.app import COMMANDS, run
from umecache.errors import JobFailed


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("data", "store")])
def test_every_command_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"umecache {command}" in shown.replace("Usage: umecache", "")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("umecache ")


@pytest.mark.parametrize(
    "argv", [["nonsense"], ["extract"], ["extract", "--no-such-flag"], ["score"], ["fuse", "--epochs", "many"]]
)
def test_bad_usage_is_one_line_and_status_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("error: ")
    assert "--help" in captured.err


def test_bad_usage_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["extract", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "--model" in json.loads(captured.out)["error"]["what"]


def test_no_command_shows_help_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    captured = capsys.readouterr()
    assert "extract" in captured.out + captured.err


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 1), (JobFailed("It broke."), 1), (BrokenPipeError(), 0)]
)
def test_what_ends_a_job(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise error

    monkeypatch.setattr(app, "COMMANDS", {"demo": "broken", "data": "broken"})
    monkeypatch.setattr(app, "resolve_name", lambda target: broken)
    monkeypatch.setattr(app.os, "dup2", lambda a, b: None)
    assert run(["demo"]) == status
    assert "Traceback" not in capfd.readouterr().err


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(app, "COMMANDS", {"demo": "broken", "data": "broken"})
    monkeypatch.setattr(app, "resolve_name", lambda target: broken)
    with pytest.raises(ZeroDivisionError):
        run(["demo"])
