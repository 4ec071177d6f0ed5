"""`ssh://[USER@]HOST[:PORT]/PATH`: through fsspec and paramiko, to hosts that are known.

    ssh HOST      # once, to compare its key and have it written to ~/.ssh/known_hosts

A host that is not in known_hosts, or has another key by now, is refused: paramiko by itself would accept whoever
answers. `UMECACHE_SSH_UNKNOWN_HOSTS=accept` says otherwise, say inside a container without known_hosts.
"""

from __future__ import annotations

import os
import posixpath
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from umecache.errors import JobFailed
from umecache.sharing.remotes import FsspecRemote, speaking

ACCEPT = "UMECACHE_SSH_UNKNOWN_HOSTS"


def connect(host: str, **options: Any) -> Any:
    """A connected `paramiko.SSHClient`.

    Args:
        options: of its `connect`: port, username, password.

    Raises:
        JobFailed: the host's key is not known, or is another one than the known one.
    """
    import paramiko

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

    What is asked of it is asked of this thread's channel.
    """

    def __init__(self, client: Any) -> None:
        self._client, self._local = client, threading.local()

    def __getattr__(self, name: str) -> Any:
        if not hasattr(self._local, "channel"):
            self._local.channel = self._client.open_sftp()
        return getattr(self._local.channel, name)


class SshRemote(FsspecRemote):
    """A folder of another machine; an object gets its name when it is whole."""

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
            return cls(url.rstrip("/"), KnownHosts(**options), KnownHosts._strip_protocol(url))

    def write(self, files: Mapping[str, Path | bytes]) -> None:
        for name, source in files.items():
            half = f"{name}.part"
            super().write({half: source})
            with speaking(f"{self.url}/{name}"):
                self.system.ftp.posix_rename(self._path(half), self._path(name))

    def below(self, name: str) -> SshRemote:
        return SshRemote(f"{self.url}/{name}", self.system, posixpath.join(self.root, name)) if name else self
