"""Two accounts on one shared folder with the setgid bit, one of them with umask 077."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.toy import Toy, write
from umecache.stores import open_store
from umecache.stores.verify import verify

GROUP = 54321
ROOT = Path(__file__).parents[2]

WRITE = """
import os, sys, tempfile
from pathlib import Path
from tests.stores.toy import Toy, begin, fill, write
toy = Toy.make(ids=60, distinct=60)
with tempfile.TemporaryDirectory() as folder:
    write(Path(folder), toy)  # loads all that is needed: the interpreter may lie where only its owner can read
uid, umask, path = int(sys.argv[1]), int(sys.argv[2], 8), sys.argv[3]
os.setgroups([54321]); os.setgid(uid); os.setuid(uid); os.umask(umask)
writer = begin(Path(path), toy)
mine = 0
for shard in writer.claim():
    fill(shard, toy)
    mine += 1
print(mine, writer.seal()["fingerprint"])
"""

BEGIN = """
import os, sys, tempfile, time
from pathlib import Path
from tests.stores.toy import Toy, begin, fill, write
toy = Toy.make(ids=60, distinct=60)
with tempfile.TemporaryDirectory() as folder:
    write(Path(folder), toy)
uid, umask, path = int(sys.argv[1]), int(sys.argv[2], 8), Path(sys.argv[3])
os.setgroups([54321]); os.setgid(uid); os.setuid(uid); os.umask(umask)
write(path / "done", toy)
writer = begin(path / "val", toy)
for number, shard in enumerate(writer.claim()):
    fill(shard, toy)
    if number == 2:
        print("half", flush=True)
        sys.stdin.readline()
print(writer.seal()["fingerprint"])
"""
"""One user writes a store and, up to its third shard, another one; the rest of that when told to."""

LOOK = """
import os, sys, tempfile
from pathlib import Path
import numpy as np
from tests.stores.toy import Toy, write
from umecache.stores import StoreIncomplete, open_store
from umecache.stores.catalog import find_stores
from umecache.stores.errors import StoreError
from umecache.stores.verify import verify
toy = Toy.make(ids=60, distinct=60)
with tempfile.TemporaryDirectory() as folder:
    write(Path(folder) / "a", toy)
    verify(Path(folder) / "a")
    sorted(find_stores(Path(folder)))
    found = open_store(Path(folder) / "a")
    near = {name: np.array(found[name]) for name in found.ids}
uid, umask, path = int(sys.argv[1]), int(sys.argv[2], 8), Path(sys.argv[3])
os.setgroups([54321]); os.setgid(uid); os.setuid(uid); os.umask(umask)
print(*sorted(each.name for each in find_stores(path)))
far = open_store(path / "done")
print(all(np.array_equal(far[name], near[name]) for name in near), verify(path / "done").ok)
try:
    open_store(path / "val")
    print("open")
except StoreIncomplete as error:
    print("incomplete")
try:
    write(path / "done", Toy.make(seed=5))
    print("overwritten")
except StoreError as error:
    print(type(error).__name__)
"""
"""The other one lists, reads, and tries to write another store over the first."""


@pytest.fixture
def lab() -> Iterator[Path]:
    """A folder of the group, where everybody may look."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "lab"
        folder.parent.chmod(0o755)
        folder.mkdir()
        os.chown(folder, 0, GROUP)
        folder.chmod(0o2770)
        yield folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two users")
def test_both_write_one_store_and_both_read_it(lab: Path, tmp_path: Path) -> None:
    toy = Toy.make(ids=60, distinct=60)
    wanted = write(tmp_path / "alone", toy)["fingerprint"]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, str(uid), umask, str(lab / "vqa/toy/val")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for uid, umask in ((54322, "077"), (54323, "002"))
    ]
    told = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    assert [out.split()[1] for out, _ in told] == [wanted, wanted]
    store = lab / "vqa/toy/val"
    assert verify(store).ok
    assert open_store(store).fingerprint == wanted
    for path in (store, *store.rglob("*")):
        status = path.stat()
        assert status.st_gid == GROUP
        assert status.st_mode & (0o070 if path.is_dir() else 0o060) == (0o070 if path.is_dir() else 0o060), path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two users")
@pytest.mark.parametrize("umasks", [("077", "002"), ("002", "077")])
def test_one_looks_while_the_other_writes(lab: Path, umasks: tuple[str, str], tmp_path: Path) -> None:
    def start(script: str, uid: int, umask: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, str(uid), umask, str(lab / "vqa")]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)

    writer = start(BEGIN, 54322, umasks[0])
    assert writer.stdout is not None
    assert writer.stdout.readline() == "half\n", writer.communicate()
    (lab / "vqa/mine").mkdir(mode=0o700)  # a third one's, that nobody may look into
    out, err = start(LOOK, 54323, umasks[1]).communicate(timeout=300)
    assert out.splitlines() == ["done val", "True True", "incomplete", "StoreMismatch"], err
    out, err = writer.communicate("go\n", timeout=300)
    assert writer.returncode == 0, err
    wanted = write(tmp_path / "alone", Toy.make(ids=60, distinct=60))["fingerprint"]
    assert out.split() == [wanted]
    for name in ("done", "val"):
        assert verify(lab / "vqa" / name).ok
        assert open_store(lab / "vqa" / name).fingerprint == wanted
