"""Only hosts that are known, one channel per thread; the whole way over a real sshd is in test_services.py."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.sharing.services import Folder
from umecache.errors import JobFailed
from umecache.sharing.remotes import open_remote
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


def test_every_thread_has_a_channel_of_its_own() -> None:
    class Opening:
        def open_sftp(self) -> Any:
            return type("Channel", (), {"thread": threading.current_thread().name})()

    channels, seen = Channels(Opening()), []
    threads = [threading.Thread(target=lambda: seen.append(channels.thread), name=f"t{i}") for i in range(3)]
    for thread in threads:
        thread.start()
        thread.join()
    assert seen == ["t0", "t1", "t2"]
    assert channels.thread == threading.current_thread().name


def test_a_real_server_whose_key_is_not_known(sshd: Folder) -> None:
    (Path.home() / ".ssh/known_hosts").write_text("")
    with pytest.raises(JobFailed, match="not known here"):
        open_remote(sshd.url)
