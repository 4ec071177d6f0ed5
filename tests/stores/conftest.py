"""Fixtures of the store tests."""

from __future__ import annotations

import os

import pytest

pytest.register_assert_rewrite("tests.stores.contract")


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk proves nothing about what is written; test_commit.py looks at the order of fsyncs itself."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
