"""Data set repositories of the Hugging Face hub: read through fsspec, written in few commits.

    umecache store push vqa-v2/vit-1a2b3c4d hf://datasets/ORG/NAME

The hub counts commits, so what belongs together goes in one; bytes that it already has are not sent again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from umecache.errors import UsageError
from umecache.sharing.remotes import FsspecRemote, RemoteFailed, RemoteMissing, speaking

PREFIX = "hf://datasets/"


class HubRemote(FsspecRemote):
    """One data set repository, or a folder in it.

    Args:
        api: a `huggingface_hub.HfApi`.
        repository: ORG/NAME.
        revision: branch, tag or commit; None: main.
        folder: path in the repository, "" for its root.
    """

    parcel: int | None = 4 << 30  # the hub takes some hundred commits an hour

    def __init__(
        self, url: str, system: Any, root: str, *, api: Any, repository: str, revision: str | None, folder: str
    ) -> None:
        super().__init__(url, system, root)
        self._api, self._repository, self._revision, self._folder = api, repository, revision, folder

    @classmethod
    def open(cls, url: str) -> HubRemote:
        """From `hf://datasets/ORG/NAME[@REVISION][/FOLDER]`.

        Raises:
            UsageError: it names no data set repository.
        """
        if not url.startswith(PREFIX) or len(url.removeprefix(PREFIX).rstrip("/").split("/")) < 2:
            raise UsageError(f"{url} names no data set of the hub.", next=f"{PREFIX}ORG/NAME")
        organisation, name, *folders = url.removeprefix(PREFIX).rstrip("/").split("/")
        name, _, revision = name.partition("@")
        from huggingface_hub import HfApi, HfFileSystem
        from huggingface_hub.utils.tqdm import disable_progress_bars

        if not sys.stderr.isatty():  # its bars are for people who watch a commit of gigabytes, not for logs
            disable_progress_bars()
        root = url.removeprefix("hf://").rstrip("/")
        return cls(
            url.rstrip("/"),
            HfFileSystem(),
            root,
            api=HfApi(),
            repository=f"{organisation}/{name}",
            revision=revision or None,
            folder="/".join(folders),
        )

    def _inside(self, name: str) -> str:
        return f"{self._folder}/{name}" if self._folder else name

    def _commit(self, operations: list[Any], message: str) -> None:
        with speaking(self.url):
            self._api.create_repo(self._repository, repo_type="dataset", exist_ok=True)
            self._api.create_commit(
                self._repository, operations, commit_message=message, repo_type="dataset", revision=self._revision
            )
            self.system.invalidate_cache()

    def sizes(self, most: int) -> dict[str, int] | None:
        prefix = self._inside("")
        found: dict[str, int] = {}
        try:
            with speaking(self.url):
                for each in self._api.list_repo_tree(
                    self._repository, self._folder or None, recursive=True, repo_type="dataset", revision=self._revision
                ):
                    if len(found) == most:  # it never ends, or holds far more than a store
                        return None
                    if isinstance(size := getattr(each, "size", None), int):  # a folder has none
                        found[each.path.removeprefix(prefix)] = size
        except RemoteMissing:  # neither the folder nor, perhaps, the repository
            return {}
        except RemoteFailed:
            return None
        return found

    def write(self, files: Mapping[str, Path | bytes]) -> None:
        from huggingface_hub import CommitOperationAdd

        added = [
            CommitOperationAdd(self._inside(name), source if isinstance(source, bytes) else str(source))
            for name, source in files.items()
        ]
        if added:
            self._commit(added, f"umecache: {next(iter(files))}" + (f" and {len(files) - 1} more" * (len(files) > 1)))

    def remove(self, names: Sequence[str]) -> None:
        from huggingface_hub import CommitOperationDelete

        there = [name for name in names if self.size(name) is not None]  # a commit that deletes what is not there fails
        if there:
            self._commit([CommitOperationDelete(self._inside(name)) for name in there], "umecache: make room")

    def below(self, name: str) -> HubRemote:
        if not name:
            return self
        return HubRemote(
            f"{self.url}/{name}",
            self.system,
            self._path(name),
            api=self._api,
            repository=self._repository,
            revision=self._revision,
            folder=self._inside(name),
        )
