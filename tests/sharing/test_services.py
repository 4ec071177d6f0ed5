"""Push and pull over real servers: killed and run again, damaged, in part, and never half-visible."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.sharing.services import Folder, Service
from tests.stores.toy import Toy, tree, write
from umecache.sharing.fetch import PARTS
from umecache.sharing.pull import pull, staging_of
from umecache.sharing.push import push
from umecache.sharing.remotes import FsspecRemote
from umecache.stores import StoreDamaged, StoreMissing, open_store
from umecache.stores.verify import verify


@pytest.fixture(params=["bucket", "sshd"])
def service(request: pytest.FixtureRequest) -> Any:
    """Every server that can be written."""
    return request.getfixturevalue(request.param)


def run_until_killed(script: str) -> None:
    """Run Python code that ends itself by kill -9."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == -9, done.stderr


DIES = (
    "import os\n"
    "from umecache.sharing import fetch, pull, push\n"
    "seen = []\n"
    "def add(self, n):\n"
    "    seen.append(n)\n"
    "    if len(seen) > {after}: os.kill(os.getpid(), 9)\n"
    "fetch.Progress.add = add\n"
)


def test_there_and_back(store: Path, service: Service, tmp_path: Path) -> None:
    (sent,) = push(store, f"{service.url}/vit")
    there = service.objects()
    assert {name: data for name, data in there.items() if name != "vit/README.md"} == {
        f"vit/{name}": data for name, data in tree(store).items()
    }
    assert b"umecache store pull " + service.url.encode() in there["vit/README.md"]
    (came,) = pull(f"{service.url}/vit", tmp_path / "back")
    assert tree(tmp_path / "back") == tree(store)
    assert sent.bytes == came.bytes == sum(len(data) for data in tree(store).values())
    assert [push(store, f"{service.url}/vit")[0].files, pull(f"{service.url}/vit", tmp_path / "back")[0].files] == [
        0,
        0,
    ]


def test_a_push_that_is_killed(store: Path, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{service.url}/vit"
    run_until_killed(DIES.format(after=7) + f"push.push({str(store)!r}, {url!r}, jobs=2)\n")
    there = {name.removeprefix("vit/") for name in service.objects()}
    assert there
    assert "CHECKSUMS" not in there
    with pytest.raises(StoreMissing, match="No finished store"):
        pull(url, tmp_path / "early")
    written: list[str] = []
    real = FsspecRemote.write

    def write(remote: FsspecRemote, files: Mapping[str, Path | bytes]) -> None:
        written.extend(name.removesuffix(".part") for name in files)  # as ssh names what is under way
        real(remote, files)

    monkeypatch.setattr(FsspecRemote, "write", write)
    (again,) = push(store, url)
    files = {name: len(data) for name, data in tree(store).items()}
    whole = {name for name in there if name.startswith("tokens/c/") and receipt_of(name) in there}
    assert whole
    assert not whole & set(written)  # shards that had arrived with their receipts are not sent again
    assert again.bytes == sum(files.values()) - sum(files[name] + files[receipt_of(name)] for name in whole)
    pull(url, tmp_path / "back")
    assert tree(tmp_path / "back") == tree(store)


def receipt_of(name: str) -> str:
    return f"receipts/{int(name.split('/')[2]):06d}.json"


def test_a_pull_that_is_killed(store: Path, service: Service, tmp_path: Path) -> None:
    url, target = f"{service.url}/vit", tmp_path / "back"
    push(store, url)
    run_until_killed(DIES.format(after=12) + f"pull.pull({url!r}, {str(target)!r}, jobs=2)\n")
    assert not target.exists()
    arrived = [name for name in tree(staging_of(target)) if not name.startswith(".writing")]
    assert len(arrived) > 5
    halves = sum(path.stat().st_size for path in (staging_of(target) / PARTS).iterdir())
    (moved,) = pull(url, target)
    assert tree(target) == tree(store)
    assert moved.there == sum((target / name).stat().st_size for name in arrived if name not in LISTS)
    assert moved.bytes == sum(map(len, tree(store).values())) - moved.there - halves  # nothing came twice


LISTS = ("CHECKSUMS", "manifest.json")  # which come first, every time


def test_damage_is_named_and_refused(store: Path, service: Service, tmp_path: Path) -> None:
    url = f"{service.url}/vit"
    push(store, url)
    data = bytearray((store / "tokens/c/3/0").read_bytes())
    data[5] ^= 1
    service.put("vit/tokens/c/3/0", bytes(data))
    with pytest.raises(StoreDamaged, match=r"tokens/c/3/0 arrived, but is not what CHECKSUMS lists"):
        pull(url, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_only_what_is_new_is_sent(store: Path, toy: Toy, service: Service, tmp_path: Path) -> None:
    url, both = f"{service.url}/vit", store.parent
    push(both, url)
    write(both / "train", toy, dtype="float32")
    (train, val) = sorted(push(both, url), key=lambda moved: moved.target)
    assert val.files == 0
    assert train.bytes == sum(len(data) for data in tree(both / "train").values())
    service.delete("vit/val/tokens/c/2/0")
    service.delete("vit/val/CHECKSUMS")
    (again,) = push(both / "val", f"{url}/val")
    assert again.bytes < 1.2 * (store / "tokens/c/2/0").stat().st_size + sum(
        (store / name).stat().st_size for name in tree(store) if not name.startswith("tokens/c/")
    )
    pull(url, tmp_path / "all")
    assert tree(tmp_path / "all/val") == tree(store)


LARGE = Toy.make(ids=200, distinct=200, dim=8192, broken=0, missing=0)


def test_five_percent_of_the_ids_are_some_five_percent_of_the_bytes(service: Service, tmp_path: Path) -> None:
    write(tmp_path / "large", LARGE, shard_records=20)
    push(tmp_path / "large", service.url + "/large")
    ids = LARGE.ids[::20]
    (moved,) = pull(service.url + "/large", tmp_path / "few", ids=ids)
    store, whole = open_store(tmp_path / "few"), open_store(tmp_path / "large")
    values, total = int(store.lengths.sum()) * 8192 * 2, sum(len(data) for data in tree(tmp_path / "large").values())
    print(
        f"{len(ids)} of {len(whole)} ids: {moved.bytes:,} of {total:,} bytes ({moved.bytes / total:.1%}), "
        f"of which {values:,} are theirs ({values / total:.1%}), the rest lists"
    )
    assert all((store[name] == whole[name]).all() for name in ids)
    assert moved.bytes < 1.2 * values < 0.08 * total
    assert verify(tmp_path / "few").ok


def test_a_plain_web_server(store: Path, web: Folder, tmp_path: Path) -> None:
    """It knows no ranges: what was cut is fetched anew, and ids bring their shards."""
    push(store, str(web.folder / "vit"))
    run_until_killed(DIES.format(after=12) + f"pull.pull({web.url + '/vit'!r}, {str(tmp_path / 'back')!r}, jobs=2)\n")
    assert not (tmp_path / "back").exists()
    pull(f"{web.url}/vit", tmp_path / "back")
    assert tree(tmp_path / "back") == tree(store)
    ids = open_store(store).ids_at([0, 1])
    pull(f"{web.url}/vit", tmp_path / "few", ids=ids)
    assert len(open_store(tmp_path / "few")) == 2
    web.put("vit/tokens/c/1/0", b"x" * (store / "tokens/c/1/0").stat().st_size)
    with pytest.raises(StoreDamaged, match="tokens/c/1/0"):
        pull(f"{web.url}/vit", tmp_path / "again")
