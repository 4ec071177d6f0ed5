"""The hub, with a stand-in for its API: which repository, and how few commits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest

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
