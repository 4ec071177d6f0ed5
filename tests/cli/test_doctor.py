"""`umecache doctor` as people type it, and the errors that send people to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from umecache.cli import app
from umecache.cli.app import run
from umecache.doctor import checks
from umecache.doctor.finding import Finding

WELL = Finding("Python", "PASS", "3.12")
SLOW = Finding("GPU", "WARN", "none is [seen]", "nvidia-smi")
BROKEN = Finding("torch", "FAIL", "can't be imported", "pip install torch")


@pytest.mark.parametrize(("findings", "status"), [([WELL], 0), ([WELL, SLOW], 0), ([SLOW, BROKEN, WELL], 1)])
def test_status_and_document(
    findings: list[Finding], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checks, "examine", lambda: iter(findings))
    assert run(["doctor", "--json"]) == status
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is (status == 0)
    assert [(each["status"], each["remedy"]) for each in document["findings"]] == [
        (each.status, each.remedy) for each in findings
    ]
    assert run(["doctor"]) == status
    said = capsys.readouterr().out
    for each in findings:
        assert f"{each.status}  {each.check}: {each.says}" in said
        assert each.remedy in said


def test_it_works_where_torch_is_broken(tmp_path: Path) -> None:
    """The whole command, in an environment whose torch and NumPy can't be imported."""
    for name in ("torch", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('broken on purpose')")
    environment = {
        **os.environ,
        "PYTHONPATH": ":".join([str(tmp_path), *(path for path in sys.path if path)]),
        "UMECACHE_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path),
    }
    command = [sys.executable, "-m", "umecache", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)["findings"]
    assert [each["says"] for each in found if each["check"] == "torch"] == [
        "can't be imported: ImportError: broken on purpose"
    ]
    assert {"Python", "packages", "hub", "tokens"} <= {each["check"] for each in found}


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (ModuleNotFoundError("No module named 'timm'", name="timm"), "'timm' can't be imported"),
        (ImportError("cannot import name 'x'", name="transformers.models"), "'transformers' can't be imported"),
        (RuntimeError("operator torchvision::nms does not exist"), "torch and torchvision don't match"),
        (OSError("libcudart.so.13: cannot open shared object file"), "A library that a package needs"),
    ],
)
def test_broken_packages_send_people_to_it(
    error: Exception, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _raising(error, monkeypatch)
    assert run(["doctor"]) == 1
    said = capsys.readouterr().err
    assert what in said and "Next: umecache doctor" in said


@pytest.mark.parametrize(
    "error", [ImportError("ours", name="umecache.nothing"), ImportError("?"), RuntimeError("a bug"), OSError("a bug")]
)
def test_bugs_keep_their_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    _raising(error, monkeypatch)
    with pytest.raises(type(error)):
        run(["doctor"])


def _raising(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def examine() -> Iterator[Finding]:
        raise error

    monkeypatch.setattr(checks, "examine", examine)
    assert "doctor" in app.COMMANDS
