"""Claims: one owner at a time, dead owners found at once, clocks not trusted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from umecache.stores import claims as module
from umecache.stores.claims import Claims, process_start, this_host


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "claims").mkdir()
    return tmp_path / "claims"


def forge(folder: Path, **owner: Any) -> Path:
    """Another owner's claim on shard 0."""
    path = folder / "000000.0"
    known = {"host": this_host(), "pid": os.getpid(), "started": process_start(os.getpid()), "nonce": "other"}
    path.write_text(json.dumps(known | owner))
    return path


def gone() -> int:
    """A process number that was in use a moment ago."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_exclusive_and_released(folder: Path) -> None:
    one, two = Claims(folder), Claims(folder)
    claim = one.acquire("000000")
    assert claim is not None
    assert one.mine(claim)
    assert two.acquire("000000") is None
    assert one.acquire("000000") is None, "not even twice by its owner"
    other = two.acquire("000001")
    assert other is not None
    one.release(claim)
    again = two.acquire("000000")
    assert again is not None
    assert not one.mine(claim)
    one.release(claim)  # harmless: it is no longer ours
    assert two.mine(again)


def test_many_threads_one_winner(folder: Path) -> None:
    won, barrier = [], threading.Barrier(8)

    def race() -> None:
        claims = Claims(folder)
        barrier.wait()
        if claims.acquire("000000") is not None:
            won.append(1)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [1]


def test_a_dead_process_of_this_host_is_replaced_at_once(folder: Path) -> None:
    forge(folder, pid=gone(), started="1")
    assert Claims(folder).acquire("000000") is not None


def test_a_reused_process_number_is_another_process(folder: Path) -> None:
    forge(folder, started="1")  # our own number, but another start
    assert Claims(folder).acquire("000000") is not None


def test_a_living_process_of_this_host_is_never_replaced(folder: Path) -> None:
    path = forge(folder)
    os.utime(path, (0, 0))  # not even with the oldest heartbeat
    claims = Claims(folder, expiry=0.0)
    for _ in range(3):
        assert claims.acquire("000000") is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    for _ in range(200):  # it ends, but nobody has waited for it
        if process_start(child.pid) is None:
            break
        time.sleep(0.05)
    assert process_start(child.pid) is None
    assert process_start(os.getpid()) is not None
    child.wait()


def test_another_host_is_replaced_after_the_stated_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    path = forge(folder, host="elsewhere")
    claims = Claims(folder, expiry=120)
    assert claims.acquire("000000") is None
    now[0] += 119
    assert claims.acquire("000000") is None
    os.utime(path, (5, 5))  # a heartbeat, from a clock that is wrong by decades
    now[0] += 100
    assert claims.acquire("000000") is None
    now[0] += 119
    assert claims.acquire("000000") is None
    now[0] += 2
    claim = claims.acquire("000000")
    assert claim is not None
    assert claim.path.name == "000000.1"
    assert path.exists(), "the stale claim is outranked, not deleted under its owner"
    assert claims.mine(claim)


def test_jumping_clocks_don_t_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "time", lambda: 1e12)
    path = forge(folder, host="elsewhere")
    claims = Claims(folder, expiry=120)
    for stamp in (0, 10**10, 5, 2 * 10**9):
        os.utime(path, (stamp, stamp))
        assert claims.acquire("000000") is None
        now[0] += 100


def test_a_claim_whose_owner_died_before_signing_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    for text in ("", "{", "[]"):
        (folder / "000000.0").write_text(text)
        claims = Claims(folder)
        assert claims.acquire("000000") is None
        now[0] += module.NAMELESS + 1
        claim = claims.acquire("000000")
        assert claim is not None
        claims.release(claim)


def test_takeover_of_a_stale_claim_has_one_winner(folder: Path) -> None:
    forge(folder, pid=gone(), started="1")
    first, second = Claims(folder), Claims(folder)
    seen = second.current()  # looked before the first one took over
    claim = first.acquire("000000")
    assert claim is not None
    assert second.acquire("000000", seen) is None
    assert first.mine(claim)
    first.release(claim)
    assert second.acquire("000000") is not None


def test_heartbeats(folder: Path) -> None:
    before = set(threading.enumerate())
    claims = Claims(folder, beat=0.02)
    claim = claims.acquire("000000")
    assert claim is not None
    os.utime(claim.path, (1, 1))
    (beating,) = set(threading.enumerate()) - before
    for _ in range(200):
        if claim.path.stat().st_mtime > 1:
            break
        time.sleep(0.02)
    assert claim.path.stat().st_mtime > 1
    claims.release(claim)
    beating.join(10)
    assert not beating.is_alive(), "no thread without a claim"


def test_a_lost_folder_is_no_claim(folder: Path) -> None:
    claims = Claims(folder)
    claim = claims.acquire("000000")
    assert claim is not None
    claim.path.unlink()
    folder.rmdir()
    assert claims.current() == {}
    assert not claims.mine(claim)
    claims.release(claim)
    with pytest.raises(FileNotFoundError):
        claims.acquire("000000")


def test_who_is_alive_by_one_look(folder: Path) -> None:
    claims = Claims(folder)
    claim = claims.acquire("000000")
    assert claim is not None
    assert [each["pid"] for each in Claims(folder).live()] == [os.getpid()]
    gone = {"host": this_host(), "pid": os.getpid(), "started": "another process of that number"}
    (folder / "000001.0").write_text(json.dumps(gone))
    (folder / "000002.0").write_text(json.dumps({"host": "elsewhere|boot|ns", "pid": 7}))
    assert {each["host"] for each in Claims(folder).live()} >= {"elsewhere"}
    assert len(Claims(folder).live()) == 2
    os.utime(folder / "000002.0", (1, 1))  # no heartbeat for years
    assert len(Claims(folder).live()) == 1
    claims.release(claim)
