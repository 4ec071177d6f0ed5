"""The ways in which Python code can name a store. Importing this loads no torch.

store_ref("minilm"), store_ref(Path("stores/minilm-056b7fa6")), store_ref(open_store(path)), store_ref(summary)
"""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from umecache.sharing.reading import RemoteStore
from umecache.sharing.urls import url_above
from umecache.stores import Store


class Extracted(Protocol):
    """What `extract` gives for each store."""

    @property
    def path(self) -> str:
        """The store's folder."""

    @property
    def split(self) -> str:
        """The split that it holds."""


StoreRef = str | PathLike[str] | Store | Extracted
"""The folder of one model's stores (a split each), a model's name, a store that is open, or what `extract` gave."""


def store_ref(store: StoreRef) -> str:
    """A store as `--text` and `--image` name it.

    One split's store stands for the folder that it lies in, so that the other splits are found beside it.
    """
    if isinstance(store, str):
        return store
    if isinstance(store, PathLike):
        return str(Path(fspath(store)).expanduser().absolute())  # a folder before it: never taken for a model's name
    if isinstance(store, Store):
        made = store.manifest.get("dataset") or {}
        split = made.get("split") if isinstance(made, dict) else None
        if isinstance(store, RemoteStore):
            return url_above(store.said) if urlsplit(store.said).path.rpartition("/")[2] == split else store.said
    else:
        split = store.split
    path = Path(store.path).absolute()
    return str(path.parent if path.name == split else path)
