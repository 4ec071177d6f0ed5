"""Checks that raise or hang cost nobody else's finding."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from umecache.doctor.finding import Finding, run_checks


def test_each_check_is_isolated() -> None:
    gone = threading.Event()

    def well() -> Iterator[Finding]:
        yield Finding("well", "PASS", "fine")

    def broken() -> Iterator[Finding]:
        yield Finding("broken", "PASS", "so far")
        raise ImportError("libnothing.so")

    def hung() -> Iterator[Finding]:
        gone.wait()
        yield Finding("hung", "PASS", "never")

    found = list(run_checks({"hung": hung, "broken": broken, "well": well}, timeout=0.2))
    gone.set()
    assert [(each.check, each.status) for each in found] == [("hung", "FAIL"), ("broken", "WARN"), ("well", "PASS")]
    assert "does not answer within 0.2 s" in found[0].says
    assert "ImportError: libnothing.so" in found[1].says and found[1].remedy
