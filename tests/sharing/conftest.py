"""A web server on loopback with faults, and stores to move."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sharing.services import bucket, s3_endpoint, sshd, web
from tests.sharing.site import Site
from tests.stores.toy import Toy, write
from umecache.sharing import fetch

__all__ = ["bucket", "s3_endpoint", "sshd", "web"]  # fixtures of services.py

TOY = Toy.make(ids=40, distinct=32, dim=64)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for disks and between tries."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(fetch, "PAUSE", 0.0)


@pytest.fixture
def toy() -> Toy:
    return TOY


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A finished store of seven shards in the folder that the site serves."""
    write(tmp_path / "served/val", TOY)
    return tmp_path / "served/val"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "served").mkdir(exist_ok=True)
    with Site(tmp_path / "served") as running:
        yield running
