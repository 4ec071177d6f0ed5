"""The process that tries torch: it tells what works, and what is broken by itself."""

from __future__ import annotations

import json

import pytest

from umecache.doctor import probe


def test_what_works_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "kernel_facts", lambda: {"ready": True, "reason": ""})  # compiled in tests/fusion
    probe.main()
    report = json.loads(capsys.readouterr().out)
    assert report["torch"]["numpy"]["sum"] == 3
    assert report["torchvision"]["kept"] == [0]
    assert report["kernel"]["ready"] is True


def test_a_broken_part_leaves_the_others(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, object]:
        print("noise on standard output")
        raise RuntimeError("operator torchvision::nms does not exist\nmore lines")

    monkeypatch.setattr(probe, "torchvision_facts", broken)
    monkeypatch.setattr(probe, "kernel_facts", lambda: {"ready": False, "reason": "no compiler"})
    probe.main()
    report = json.loads(capsys.readouterr().out)
    assert report["torchvision"] == {"error": "RuntimeError: operator torchvision::nms does not exist"}
    assert "version" in report["torch"]


def test_the_kernel_is_asked() -> None:
    assert probe.kernel_facts().keys() == {"ready", "reason"}
