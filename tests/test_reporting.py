"""The silent reporter keeps the protocol and says nothing."""

from __future__ import annotations

import pytest

from umecache.reporting import Reporter, Silent


def test_silence(capfd: pytest.CaptureFixture[str]) -> None:
    reporter: Reporter = Silent()
    with reporter.task("label", 3) as task:
        task.advance(2, loss=0.5)
    reporter.say("hello")
    assert capfd.readouterr() == ("", "")
