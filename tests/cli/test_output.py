"""One JSON document on standard output, everything else on standard error."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from umecache.cli import output
from umecache.errors import UsageError


def test_documents_are_strict_json(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit({"a": float("nan"), "b": [float("inf"), 1.5], 3: "é"}, json=True, words=lambda: print("words"))
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "3": "é"}


def test_words_instead(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit({"a": 1}, json=False, words=lambda: print("words"))
    assert capsys.readouterr().out == "words\n"


def test_an_error_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit_error(UsageError("what\nhere.", why="why.", next="do this"), json=False)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: what here. why. Next: do this\n"


def test_an_error_as_json_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit_error(UsageError("what", why="(why)", next="do this"), json=False)
    assert capsys.readouterr().err == "error: what. (why). Next: do this\n"
    output.emit_error(UsageError("what.", next="do this"), json=True)
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out) == {"error": {"what": "what.", "why": "", "next": "do this"}}


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(output.time, "monotonic", lambda: float(next(clock)))
    reporter = output.reporter()
    with reporter.task("encoding", 100, "images") as task:
        task.advance(40, GB=0.25)
    reporter.say("done")
    captured = capsys.readouterr()
    assert captured.out == ""
    first = captured.err.splitlines()[0]
    assert first.startswith("encoding: 40/100 images")
    assert "left" in first
    assert "GB 0.25" in first
    assert captured.err.endswith("done\n")


def test_short_tasks_need_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with output.LineReporter().task("quick", 3) as task:
        task.advance(3)
    assert capsys.readouterr().err == ""


def test_bars_share_one_display() -> None:
    shown = Console(file=io.StringIO(), force_terminal=True, width=120)
    reporter = output.BarReporter(shown)
    with reporter.task("outer", 2) as outer, reporter.task("inner", 4, "images") as inner:
        inner.advance(4, loss=0.125)
        outer.advance()
        assert reporter._live is not None
    assert reporter._live is None
    drawn = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "outer" in drawn
    assert "inner" in drawn
    assert "loss 0.125" in drawn
