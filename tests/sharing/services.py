"""Real servers on loopback: S3 (moto's), sshd, and Python's web server without ranges. Where absent, a skip says so.

Each is a `Service`: a URL for the code under test, and the objects themselves for the test.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import pytest

PATIENCE = 120.0  # seconds for a server to come up: the machine may be busy


class Service(Protocol):
    """A place that stores are pushed to, and pulled from."""

    url: str

    def objects(self) -> dict[str, bytes]:
        """Everything that lies below the URL."""

    def put(self, name: str, data: bytes) -> None:
        """Change one object behind everybody's back."""

    def delete(self, name: str) -> None:
        """Remove one object."""


class Folder:
    """A service whose objects are files of a folder."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder

    def objects(self) -> dict[str, bytes]:
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}

    def put(self, name: str, data: bytes) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(data)

    def delete(self, name: str) -> None:
        (self.folder / name).unlink()


class Bucket:
    """A bucket of an S3 server; `endpoint` is where it listens, `log` where it writes what it was asked for."""

    def __init__(self, endpoint: str, name: str, log: Path) -> None:
        import boto3

        self._client: Any = boto3.client("s3", endpoint_url=endpoint)
        self._client.create_bucket(Bucket=name)
        self._name, self.url, self._log = name, f"s3://{name}", log

    def requests(self) -> list[str]:
        """Method and path of everything that was asked of this bucket: "GET /BUCKET/NAME"."""
        asked = re.findall(r'"(?:\x1b\[\d+m)*([A-Z]+ /\S*) HTTP/1', self._log.read_text(errors="replace"))
        return [each for each in asked if each.split(" /")[1].split("?")[0].split("/")[0] == self._name]

    def objects(self) -> dict[str, bytes]:
        found = self._client.list_objects_v2(Bucket=self._name)
        assert not found["IsTruncated"]
        names = [each["Key"] for each in found.get("Contents", [])]
        return {name: self._client.get_object(Bucket=self._name, Key=name)["Body"].read() for name in names}

    def put(self, name: str, data: bytes) -> None:
        self._client.put_object(Bucket=self._name, Key=name, Body=data)

    def delete(self, name: str) -> None:
        self._client.delete_object(Bucket=self._name, Key=name)

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: list[str], port: int, log: Path) -> Iterator[None]:
    """A server process until the end of the block; its output goes to `log`."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=log.parent)
        try:
            _await(port, process.poll, log)
            yield
        finally:
            process.kill()
            process.wait()


def _await(port: int, ended: Callable[[], int | None], log: Path) -> None:
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up and ended() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"The server did not come up: {log.read_text(errors='replace')[-1000:]}")


KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Where moto's S3 server listens, and its log."""
    for package in ("moto", "flask", "s3fs", "boto3"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed (the dev extra brings moto[server] and s3fs)")
    port = free_port()
    log = tmp_path_factory.mktemp("s3") / "log"
    with serving([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port, log):
        yield f"http://127.0.0.1:{port}", log


@pytest.fixture
def bucket(s3_endpoint: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A new bucket, which `s3://` finds, also in processes that the test starts."""
    import s3fs

    for name, value in {**KEYS, "AWS_ENDPOINT_URL": s3_endpoint[0]}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    found = Bucket(s3_endpoint[0], f"lab-{os.urandom(4).hex()}", s3_endpoint[1])
    yield found
    found.close()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Folder]:
    """Python's own web server over a folder."""
    folder, port = tmp_path / "web", free_port()
    folder.mkdir()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    with serving(command, port, tmp_path / "web.log"):
        yield Folder(f"http://127.0.0.1:{port}", folder)


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """An ssh server of this user with throw-away keys, which the user's `known_hosts` knows."""
    program, sftp = shutil.which("sshd") or "/usr/sbin/sshd", Path("/usr/lib/openssh/sftp-server")
    if not Path(program).exists() or not sftp.exists() or not shutil.which("ssh-keygen"):
        pytest.skip("no OpenSSH server (the package openssh-server brings it)")
    if find_spec("paramiko") is None:
        pytest.skip("paramiko is not installed (pip install 'umecache[ssh]')")
    home, port = tmp_path / "user", free_port()
    (home / ".ssh").mkdir(parents=True)
    for key in (home / ".ssh/id_ed25519", tmp_path / "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    host = (tmp_path / "host_key.pub").read_text().split()
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{port} {host[0]} {host[1]}\n")
    monkeypatch.setenv("HOME", str(home))
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": tmp_path / "host_key",
        "AuthorizedKeysFile": home / ".ssh/id_ed25519.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "Subsystem": f"sftp {sftp}",
        "MaxStartups": "100",
    }
    (tmp_path / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    if os.getuid() == 0:  # where sshd of root gives up its rights
        Path("/run/sshd").mkdir(exist_ok=True)
    (tmp_path / "lab").mkdir()
    with serving([program, "-D", "-e", "-f", str(tmp_path / "sshd_config")], port, tmp_path / "sshd.log"):
        yield Folder(f"ssh://127.0.0.1:{port}{tmp_path / 'lab'}", tmp_path / "lab")
