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
