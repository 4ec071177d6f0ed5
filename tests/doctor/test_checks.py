"""All checks: one for each home, each with a name of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from umecache.doctor import checks


def test_every_home_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, lab = tmp_path / "own", tmp_path / "lab"
    monkeypatch.setenv("UMECACHE_HOME", f"{own}:{lab}")
    named = checks.all_checks()
    assert list(named)[:3] == ["Python", "packages", "torch"]
    assert [each.status for each in named[f"home {lab}"]()] == ["WARN"], "nothing is made in a home that is only read"
    assert "PASS" in {each.status for each in named[f"home {own}"]()}


def test_they_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = checks.all_checks()["Python"]
    monkeypatch.setattr(checks, "all_checks", lambda: {"Python": wanted})
    assert [each.check for each in checks.examine()] == ["Python"]
