"""What could go, and what must stay."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.stores.toy import Toy, begin, write
from umecache.sharing import gc as module
from umecache.sharing.gc import Finding, delete, examine

TOY = Toy.make()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "stores"


def age(path: Path, days: float) -> None:
    when = time.time() - days * 86400
    for each in (path, *path.rglob("*")):
        os.utime(each, (when, when), follow_symlinks=False)


def told(found: list[Finding]) -> dict[str, str]:
    return {each.path.name: each.why for each in found}


def test_what_is_used_or_young_stays(root: Path) -> None:
    used = write(root / "used", TOY)["fingerprint"]
    write(root / "young", Toy.make(seed=1))
    write(root / "old", Toy.make(seed=2))
    age(root / "used", 100)
    age(root / "old", 100)
    (found,) = examine([root], {used: [Path("run")]})
    assert (found.path, found.why, found.kept) == (root / "old", "unused", "")
    assert found.bytes == sum(each.stat().st_size for each in (root / "old").rglob("*") if each.is_file())
    assert told(examine([root], {used: [Path("run")]}, older=0)) == {"young": "unused", "old": "unused"}
    assert delete(found) == ""
    assert sorted(each.name for each in root.iterdir()) == ["used", "young"]


def test_the_second_of_two(root: Path, tmp_path: Path) -> None:
    print_ = write(root / "a", TOY)["fingerprint"]
    write(tmp_path / "lab/b", TOY)
    write(tmp_path / "lab/c", TOY, format="hdf5")  # for other tools: not the same thing twice
    (found,) = examine([root, tmp_path / "lab"], {print_: [Path("run")]})
    assert (found.path, found.why) == (tmp_path / "lab/b", "duplicated")
    assert str(root / "a") in found.detail


def test_damage(root: Path) -> None:
    write(root / "cut", TOY)
    (root / "cut/tokens/c/1/0").write_bytes(b"")
    write(root / "flipped", Toy.make(seed=1))
    file = root / "flipped/tokens/c/1/0"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    assert told(examine([root], {})) == {"cut": "damaged"}
    ticks: list[int] = []
    assert told(examine([root], {}, deep=True, tick=ticks.append)) == {"cut": "damaged", "flipped": "damaged"}
    assert sum(ticks) > 0


def test_abandoned_work(root: Path) -> None:
    begin(root / "just now", TOY)
    begin(root / "long ago", TOY)
    age(root / "long ago", 2)
    at_work = begin(root / "at work", TOY)
    shard = at_work.take(0)
    assert shard is not None
    age(root / "at work", 2)
    found = {each.path.name: each for each in examine([root], {})}
    assert {each.why for each in found.values()} == {"incomplete"}
    assert found["long ago"].kept == ""
    assert "minutes ago" in found["just now"].kept
    assert f":{os.getpid()} is writing it" in found["at work"].kept
    for each in found.values():
        delete(each)
    assert sorted(each.name for each in root.iterdir()) == ["at work", "just now"]
    shard.discard()


def test_what_killed_processes_left(root: Path) -> None:
    write(root / "vqa/s", TOY)
    for name in ("vqa/.t.pulling", "vqa/.u.deleted-7", "vqa/s/.writing-7-ab"):
        (root / name).mkdir()
        (root / name / "x").write_bytes(b"1234")
        age(root / name, 1)
    (root / "vqa/.fresh.pulling").mkdir()
    found = {each.path.name: each for each in examine([root], {})}
    assert {each.why for each in found.values()} == {"leftover"}
    assert set(found) == {".t.pulling", ".u.deleted-7", ".writing-7-ab", ".fresh.pulling"}
    assert [found[name].bytes for name in (".t.pulling", ".u.deleted-7", ".writing-7-ab")] == [4, 4, 4]
    assert "minutes ago" in found[".fresh.pulling"].kept
    for each in found.values():
        delete(each)
    assert [each.name for each in root.rglob(".*")] == [".fresh.pulling"]


def test_another_user_s_store_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "s", TOY)
    monkeypatch.setattr(module.os, "geteuid", lambda: os.getuid() + 1)
    (found,) = examine([root], {}, older=0)
    assert "another user" in found.kept
    assert "another user" in delete(Finding(found.path, "unused", "", 0, ""))  # looked at again before it goes
    assert (root / "s").exists()


def test_a_store_that_is_open_stays(root: Path) -> None:
    write(root / "s", TOY)
    script = f"import time; f = open({str(root / 's/manifest.json')!r}); print('open', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        (found,) = examine([root], {}, older=0)
        assert found.kept == f"process {other.pid} has it open"
        other.kill()
    (found,) = examine([root], {}, older=0)
    assert found.kept == ""
    assert json.loads(json.dumps(found.as_json()))["path"] == str(root / "s")


def test_links_are_left_alone(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", TOY)
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    assert examine([root], {}, older=0) == []
    shutil.rmtree(tmp_path / "elsewhere")
    assert examine([root, tmp_path / "nowhere"], {}) == []
