"""Only hosts that are known, one channel per thread; the whole way over a real sshd is in test_services.py."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.sharing.services import Folder
from umecache.errors import JobFailed
from umecache.sharing.remotes import RemoteFailed, open_remote
from umecache.sharing.ssh import ACCEPT, Channels, connect


class SSHException(Exception):
    pass


class Client:
    """Behaves as paramiko's towards a host that no known_hosts file names."""

    def __init__(self) -> None:
        self.loaded = self.closed = False
        self.policy: Any = None

    def load_system_host_keys(self) -> None:
        self.loaded = True

    def set_missing_host_key_policy(self, policy: str) -> None:
        self.policy = policy

    def connect(self, host: str, **options: Any) -> None:
        assert self.loaded
        if self.policy == "reject":
            raise SSHException(f"Server '{host}' not found in known_hosts")

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def paramiko(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("paramiko")
    told = {
        "SSHClient": Client,
        "SSHException": SSHException,
        "BadHostKeyException": type("BadHostKeyException", (SSHException,), {}),
        "AutoAddPolicy": lambda: "accept",
        "RejectPolicy": lambda: "reject",
    }
    fake.__dict__.update(told)
    monkeypatch.setitem(sys.modules, "paramiko", fake)


@pytest.mark.usefixtures("paramiko")
def test_an_unknown_host_is_refused_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JobFailed, match="lab is not known here") as caught:
        connect("lab", port=2222)
    assert "ssh -p 2222 lab" in caught.value.next
    monkeypatch.setenv(ACCEPT, "accept")
    assert connect("lab", port=2222).policy == "accept"


class Opening:
    """A server that grants so many channels."""

    def __init__(self, most: int = 100) -> None:
        self.opened, self.most = 0, most

    def open_sftp(self) -> Any:
        import paramiko

        if self.opened == self.most:
            raise paramiko.ChannelException(2, "Connect failed")
        self.opened += 1
        return SimpleNamespace(number=self.opened)


def numbers(channels: Channels, threads: int) -> list[int]:
    """Which channels so many threads get that live at the same time."""
    together = threading.Barrier(threads, timeout=30)

    def ask(_: int) -> int:
        together.wait()
        found: int = channels.number
        together.wait()
        return found

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(ask, range(threads)))


def test_every_thread_has_a_channel_of_its_own_and_leaves_it_to_the_next() -> None:
    pytest.importorskip("paramiko", reason="paramiko is not installed (pip install 'umecache[ssh]')")
    client = Opening()
    channels = Channels(client)
    assert channels.number == 1
    assert sorted(numbers(channels, 3)) == sorted(numbers(channels, 3)) == [2, 3, 4]
    assert (channels.number, client.opened) == (1, 4)


def test_more_channels_than_the_server_grants() -> None:
    pytest.importorskip("paramiko", reason="paramiko is not installed (pip install 'umecache[ssh]')")
    channels = Channels(Opening(1))
    assert channels.number == 1
    with ThreadPoolExecutor(1) as pool, pytest.raises(RemoteFailed, match="no more than 1 channels"):
        pool.submit(lambda: channels.number).result()


def test_a_real_server_whose_key_is_not_known(sshd: Folder) -> None:
    (Path.home() / ".ssh/known_hosts").write_text("")
    with pytest.raises(JobFailed, match="not known here"):
        open_remote(sshd.url)
