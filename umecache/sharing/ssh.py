"""`ssh://[USER@]HOST[:PORT]/PATH`: through fsspec and paramiko, to hosts that are known.

    ssh HOST      # once, to compare its key and have it written to ~/.ssh/known_hosts

A host that is not in known_hosts, or has another key by now, is refused: paramiko by itself would accept whoever
answers. `UMECACHE_SSH_UNKNOWN_HOSTS=accept` says otherwise, say inside a container without known_hosts.
"""

from __future__ import annotations

import logging
import os
import posixpath
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from umecache.errors import JobFailed
from umecache.sharing.remotes import FsspecRemote, RemoteFailed, speaking
from umecache.sharing.urls import public

ACCEPT = "UMECACHE_SSH_UNKNOWN_HOSTS"


def connect(host: str, **options: Any) -> Any:
    """A connected `paramiko.SSHClient`.

    Args:
        options: of its `connect`: port, username, password.

    Raises:
        JobFailed: the host's key is not known, or is another one than the known one.
    """
    import paramiko

    logging.getLogger("paramiko").addHandler(logging.NullHandler())  # it would print its tracebacks
    client = paramiko.SSHClient()
    client.load_system_host_keys()
    accept = os.environ.get(ACCEPT) == "accept"
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy() if accept else paramiko.RejectPolicy())
    try:
        client.connect(host, **options)
    except paramiko.SSHException as error:
        client.close()
        told = str(error)
        if "known_hosts" in told or isinstance(error, paramiko.BadHostKeyException):
            port = f"-p {options['port']} " if options.get("port") else ""
            raise JobFailed(
                f"The host {host} is not known here, or shows another key than the known one.",
                why=f"{told[:200]}.",
                next=f"ssh {port}{host}, compare its key, and try again; {ACCEPT}=accept takes any",
            ) from error
        raise
    return client


class Channels:
    """An SFTP channel for each thread, opened when it is first used: paramiko mixes up answers where threads share one.

    What is asked of it is asked of this thread's channel. A thread that has ended leaves its channel to the next one,
    for a server grants few of them to one connection.
    """

    def __init__(self, client: Any) -> None:
        self._client, self._lock = client, threading.Lock()
        self._of: dict[threading.Thread, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mine(), name)

    def _mine(self) -> Any:
        me = threading.current_thread()
        with self._lock:
            if me not in self._of:
                ended = next((each for each in self._of if not each.is_alive()), None)
                self._of[me] = self._open() if ended is None else self._of.pop(ended)
            return self._of[me]

    def _open(self) -> Any:
        from paramiko import ChannelException

        try:
            return self._client.open_sftp()
        except ChannelException as error:
            raise RemoteFailed(
                f"The ssh server grants no more than {len(self._of)} channels at once.",
                why="MaxSessions in its sshd_config says how many.",
                next=f"--jobs {max(len(self._of) - 1, 1)}",
            ) from error


class SshRemote(FsspecRemote):
    """A folder of another machine; an object gets its name when it is whole."""

    def __init__(self, url: str, system: Any, root: str) -> None:
        super().__init__(url, system, root)
        self._made: set[str] = set()  # folders that are there

    @classmethod
    def open(cls, url: str) -> SshRemote:
        """From `ssh://[USER@]HOST[:PORT]/PATH`.

        Raises:
            JobFailed: an unknown host.
            RemoteFailed: it can't be reached.
        """
        from fsspec.implementations.sftp import SFTPFileSystem

        class KnownHosts(SFTPFileSystem):  # type: ignore[misc]
            """fsspec's, connected by us."""

            cachable = False

            def _connect(self) -> None:
                self.client = connect(self.host, **self.ssh_kwargs)
                self.ftp = Channels(self.client)

        with speaking(url):
            options = KnownHosts._get_kwargs_from_urls(url)
            return cls(public(url).rstrip("/"), KnownHosts(**options), KnownHosts._strip_protocol(url))

    def write(self, files: Mapping[str, Path | bytes]) -> None:
        for name, source in files.items():
            half, final = self._path(f"{name}.part"), self._path(name)
            with speaking(f"{self.url}/{name}"):
                self._make_dirs(posixpath.dirname(final))
                if isinstance(source, bytes):
                    self.system.pipe_file(half, source)
                else:
                    self.system.put_file(str(source), half)
                self.system.ftp.posix_rename(half, final)

    def _make_dirs(self, path: str) -> None:
        """All of them; another thread or process may make the same ones, which a server calls a failure."""
        if path in self._made or path in ("", "/"):
            return
        ftp = self.system.ftp
        try:
            there = stat.S_ISDIR(ftp.stat(path).st_mode)
        except FileNotFoundError:
            self._make_dirs(posixpath.dirname(path))
            try:
                ftp.mkdir(path)
                there = True
            except OSError:
                there = stat.S_ISDIR(ftp.stat(path).st_mode)
        if not there:
            raise NotADirectoryError(path)
        self._made.add(path)

    def below(self, name: str) -> SshRemote:
        return SshRemote(f"{self.url}/{name}", self.system, self._path(name)) if name else self
