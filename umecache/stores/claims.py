"""Who works on what: exclusive claims with a heartbeat, on any file system that has O_EXCL.

    claims = Claims(folder)
    claim = claims.acquire("000003")     # None: somebody else holds it
    ...
    claims.release(claim)

A claim is a file `NAME.GENERATION`. To take over the stale claim of generation g is to create generation g + 1 with
O_EXCL, which exactly one process can do; nothing is ever renamed or deleted under another owner's feet. The newest
generation holds the name. If an owner was wrongly thought dead, two processes do the same work for a while; the
commit is atomic and gives the same bytes, and the one that lost its claim notices before it commits.

Stale: on the same host, as soon as the owner process is gone (or is a zombie, or its number belongs to a later
process). From another host, when the claim has not changed for `expiry` seconds of the observer's monotonic clock, so
clocks that differ or jump don't matter.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umecache.stores.files import share

EXPIRY = 120.0
"""Seconds without a heartbeat after which another host's claim is stale."""

BEAT = 15.0
"""Seconds between heartbeats."""

NAMELESS = 10.0
"""Seconds after which a claim without a readable owner is stale: its process died between creating and signing it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A held claim."""

    name: str
    path: Path
    nonce: str


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def this_host() -> str:
    """One name for the machine, its current boot and the PID namespace: where a process number means something."""
    boot = _read_text("/proc/sys/kernel/random/boot_id").strip()
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return "|".join((socket.gethostname(), boot, namespace))


def process_start(pid: int) -> str | None:
    """When process `pid` of this host started, in the kernel's own units; None: it is gone or a zombie; "" unknown."""
    if Path("/proc/self/stat").exists():
        fields = _read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else None
    try:  # no /proc: at least say whether the number is in use
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return ""


class Claims:
    """Claims in one folder, with one heartbeat thread while any is held.

    Args:
        folder: exists.
        expiry, beat: seconds; see `EXPIRY` and `BEAT`.
    """

    def __init__(self, folder: Path, *, expiry: float = EXPIRY, beat: float = BEAT) -> None:
        self._folder, self._expiry, self._beat = folder, expiry, beat
        self._host = this_host()
        self._held: dict[Path, Claim] = {}
        self._seen: dict[Path, tuple[object, float]] = {}  # what another's claim looked like, and since when
        self._lock = threading.Lock()
        self._stop: threading.Event | None = None

    def current(self) -> dict[str, Path]:
        """The newest generation of every name."""
        newest: dict[str, tuple[int, Path]] = {}
        try:
            files = [entry.name for entry in self._folder.iterdir()]
        except FileNotFoundError:
            return {}
        for file in files:
            name, _, generation = file.rpartition(".")
            if generation.isdigit() and int(generation) >= newest.get(name, (-1,))[0]:
                newest[name] = (int(generation), self._folder / file)
        return {name: path for name, (_, path) in newest.items()}

    def acquire(self, name: str, current: Mapping[str, Path] | None = None) -> Claim | None:
        """Take `name` if it is free or its holder is gone.

        Args:
            current: a recent `current()`, to spare a listing; a claim newer than it is still respected.
        """
        holder = (self.current() if current is None else current).get(name)
        if holder is not None and not self._stale(holder):
            return None
        generation = 0 if holder is None else int(holder.name.rpartition(".")[2]) + 1
        path = self._folder / f"{name}.{generation}"
        nonce = uuid.uuid4().hex
        owner = {
            "host": self._host,
            "pid": os.getpid(),
            "started": process_start(os.getpid()),
            "nonce": nonce,
        }
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return None
        try:
            share(path)  # others must be able to read who holds it
            os.write(fd, json.dumps(owner).encode())
        finally:
            os.close(fd)
        claim = Claim(name, path, nonce)
        with self._lock:
            self._held[path] = claim
            if self._stop is None:
                self._stop = threading.Event()
                threading.Thread(target=self._heartbeat, args=(self._stop,), daemon=True, name="claims").start()
        return claim

    def live(self, grace: float = 3600.0) -> list[dict[str, Any]]:
        """Owners that may be at work, by one look from outside.

        Args:
            grace: seconds since another host's last heartbeat after which it is taken for gone; long, since clocks
                of two machines may differ.
        """
        found = []
        for path in self.current().values():
            owner = self._owner(path)
            if owner.get("host") == self._host and isinstance(owner.get("pid"), int):
                alive = process_start(owner["pid"]) == owner.get("started")
            else:
                try:
                    alive = abs(time.time() - path.stat().st_mtime) < grace
                except FileNotFoundError:
                    continue
            if alive:
                found.append({"host": str(owner.get("host", "?")).partition("|")[0], "pid": owner.get("pid")})
        return found

    def mine(self, claim: Claim) -> bool:
        """Whether a claim is still the newest of its name and ours."""
        return self.current().get(claim.name) == claim.path and self._owner(claim.path).get("nonce") == claim.nonce

    def release(self, claim: Claim) -> None:
        """Give a claim back; harmless when it is lost already."""
        with self._lock:
            self._held.pop(claim.path, None)
            if not self._held and self._stop is not None:
                self._stop.set()
                self._stop = None
        if self._owner(claim.path).get("nonce") == claim.nonce:
            claim.path.unlink(missing_ok=True)

    def _owner(self, path: Path) -> dict[str, Any]:
        try:
            owner = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return {}
        return owner if isinstance(owner, dict) else {}

    def _stale(self, path: Path) -> bool:
        owner = self._owner(path)
        if owner.get("host") == self._host and isinstance(owner.get("pid"), int):
            return process_start(owner["pid"]) != owner.get("started")
        try:
            status = path.stat()
        except FileNotFoundError:
            return False  # just released: look again
        looks = (status.st_mtime_ns, status.st_ino, status.st_size)
        before, since = self._seen.get(path, (None, 0.0))
        if looks != before:
            self._seen[path] = (looks, time.monotonic())
            return False
        return time.monotonic() - since > (self._expiry if owner else min(NAMELESS, self._expiry))

    def _heartbeat(self, stop: threading.Event) -> None:
        while not stop.wait(self._beat):
            with self._lock:
                held = list(self._held)
            for path in held:
                try:
                    os.utime(path)
                except OSError:  # lost or sealed away meanwhile: `mine` tells its holder
                    continue
