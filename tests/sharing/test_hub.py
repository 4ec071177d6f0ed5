"""The hub: which repository, how few commits, and the whole way through its own client to a hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.sharing.hub_server import TOKEN, Hub
from tests.stores.toy import Toy, tree, write
from umecache.errors import UsageError
from umecache.sharing.hub import HubRemote

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (pip install 'umecache[hub]')")


class Api:
    """Takes commits."""

    def __init__(self) -> None:
        self.commits: list[tuple[str, list[Any], str | None]] = []
        self.created: list[str] = []

    def create_repo(self, repository: str, *, repo_type: str, exist_ok: bool) -> None:
        assert repo_type == "dataset"
        self.created.append(repository)

    def create_commit(
        self, repository: str, operations: list[Any], *, commit_message: str, repo_type: str, revision: str | None
    ) -> None:
        self.commits.append((repository, operations, revision))


def test_which_repository() -> None:
    remote = HubRemote.open("hf://datasets/lab/features@v2/vit/val")
    assert (remote._repository, remote._revision, remote._folder) == ("lab/features", "v2", "vit/val")
    assert remote._path("manifest.json") == "datasets/lab/features@v2/vit/val/manifest.json"
    assert HubRemote.open("hf://datasets/lab/features").below("val")._folder == "val"
    for url in ("hf://lab/features", "hf://datasets/lab"):
        with pytest.raises(UsageError, match="names no data set"):
            HubRemote.open(url)


def test_what_is_written_together_is_one_commit(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(b"rows")
    api, system = Api(), fsspec.filesystem("memory")
    system.pipe_file("/repo/val/old", b"x")
    remote = HubRemote("hf://x", system, "/repo", api=api, repository="lab/f", revision=None, folder="")
    below = remote.below("val")
    below.write({"tokens/c/0/0": tmp_path / "shard", "receipts/000000.json": b"{}"})
    below.remove(["old", "never was"])
    below.remove(["never was"])
    below.write({})
    (_, added, _), (_, deleted, _) = api.commits
    assert [each.path_in_repo for each in added] == ["val/tokens/c/0/0", "val/receipts/000000.json"]
    assert [each.path_in_repo for each in deleted] == ["val/old"]
    system.store.clear()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


class Commands:
    """Our commands in processes of their own, since the client reads its environment when it is imported."""

    def __init__(self, hub: Hub, home: Path) -> None:
        home.mkdir()
        said = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        self.environment = {**os.environ, "UMECACHE_HOME": str(home), "HF_HOME": str(home / "hf"), **said}
        self.environment.pop("HF_HUB_OFFLINE")

    def __call__(self, *words: str, status: int = 0) -> str:
        """What it says, which holds no secret."""
        done = self.python("-m", "umecache", *words)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *words]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=300, cwd=Path.cwd()
        )
        assert "s3cret" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def umecache(hub: Hub, tmp_path: Path) -> Commands:
    return Commands(hub, tmp_path / "home")


URL = "hf://datasets/lab/features/vit"


def test_there_and_back_through_its_own_client(
    store: Path, toy: Toy, hub: Hub, umecache: Commands, tmp_path: Path
) -> None:
    umecache("store", "push", str(store), f"{URL}/val")
    files = hub.repositories["lab/features"]
    assert {name: data for name, data in files.items() if not name.endswith("README.md")} == {
        f"vit/val/{name}": data for name, data in tree(store).items()
    }
    assert len(hub.commits) <= 4  # the shards, CHECKSUMS, the card: not one for each file
    assert hub.objects  # the shards went by LFS
    before, stored = len(hub.commits), len(hub.requests)
    assert "nothing to move" in umecache("store", "push", str(store), f"{URL}/val")
    assert len(hub.commits) == before
    assert not [each for each in hub.requests[stored:] if each.startswith("PUT")]
    umecache("store", "pull", f"{URL}/val", str(tmp_path / "back"))
    assert tree(tmp_path / "back") == tree(store)
    (tmp_path / "ids").write_text("\n".join(map(str, toy.ids[:3])))
    umecache("store", "pull", f"{URL}/val", str(tmp_path / "few"), "--ids", str(tmp_path / "ids"))
    assert "train" in umecache("store", "info", str(tmp_path / "few"))
    reads = (
        "import sys, umecache, numpy as np\n"
        "far, near = umecache.open_store(sys.argv[1]), umecache.open_store(sys.argv[2])\n"
        "assert far.fingerprint == near.fingerprint\n"
        "assert all(np.array_equal(far[name], near[name]) for name in near.ids)\n"
        "print(far.place)"
    )
    done = umecache.python("-c", reads, f"{URL}/val", str(store))
    assert (done.returncode, done.stdout.strip()) == (0, f"{URL}/val"), done.stderr


def test_several_stores_and_what_is_new(store: Path, toy: Toy, hub: Hub, umecache: Commands, tmp_path: Path) -> None:
    umecache("store", "push", str(store.parent), URL)
    write(store.parent / "train", toy, dtype="float32")
    before = len([each for each in hub.requests if each.startswith("PUT")])
    told = json.loads(umecache("store", "push", str(store.parent), URL, "--json"))
    assert sorted(each["files"] > 0 for each in told["stores"]) == [False, True]
    assert len([each for each in hub.requests if each.startswith("PUT")]) - before <= len(tree(store.parent / "train"))
    umecache("store", "pull", URL, str(tmp_path / "all"))
    for split in ("train", "val"):
        assert tree(tmp_path / "all" / split) == tree(store.parent / split)


def test_damage_and_refusals(store: Path, hub: Hub, umecache: Commands, tmp_path: Path) -> None:
    umecache("store", "push", str(store), URL)
    files = hub.repositories["lab/features"]
    good = files["vit/tokens/c/3/0"]
    files["vit/tokens/c/3/0"] = good[:5] + bytes([good[5] ^ 1]) + good[6:]
    assert "tokens/c/3/0 arrived, but is not what CHECKSUMS lists" in umecache(
        "store", "pull", URL, str(tmp_path / "back"), status=1
    )
    assert not (tmp_path / "back").exists()
    files["vit/tokens/c/3/0"] = good
    umecache("store", "pull", URL, str(tmp_path / "back"))
    assert tree(tmp_path / "back") == tree(store)
    umecache.environment["HF_TOKEN"] = "hf_other"
    said = umecache("store", "push", str(store), "hf://datasets/lab/mine", status=1)
    assert "401" in said
    assert "lab/mine" not in hub.repositories
    assert "No finished store" in umecache("store", "pull", "hf://datasets/lab/nowhere", str(tmp_path / "x"), status=2)


def test_a_tree_that_never_ends(store: Path, hub: Hub, umecache: Commands) -> None:
    hub.endless = True
    hub.repositories["lab/features"] = {}
    script = f"from umecache.sharing.remotes import open_remote\nassert open_remote({URL!r}).sizes(10_000) is None\n"
    done = umecache.python("-c", script)
    assert done.returncode == 0, done.stderr
    assert len(hub.requests) < 20
