"""Feature stores: the cached output of one frozen encoder over one set of inputs.

    from umecache.stores import open_store, open_writer

    store = open_store("stores/vqa-v2/bert-3f9a1c02/val")
    tokens_BTD, mask_BT = store.batch(store.ids[:32])

The room stands alone: it imports nothing else of umecache, and importing it loads neither zarr, h5py nor torch. The
on-disk format is specified in docs/store-format.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from umecache.stores.errors import (
        StoreDamaged,
        StoreError,
        StoreIncomplete,
        StoreMismatch,
        StoreMissing,
        StoreTooNew,
        StoreWriteFailed,
        UnknownId,
    )
    from umecache.stores.fingerprint import diff_facts, fingerprint, recipe8, recipe_hash
    from umecache.stores.reader import Store, open_store
    from umecache.stores.shard import ShardWriter
    from umecache.stores.writer import Writer, begun_facts, open_writer

_HOME = {
    "StoreDamaged": "errors",
    "StoreError": "errors",
    "StoreIncomplete": "errors",
    "StoreMismatch": "errors",
    "StoreMissing": "errors",
    "StoreTooNew": "errors",
    "StoreWriteFailed": "errors",
    "UnknownId": "errors",
    "diff_facts": "fingerprint",
    "fingerprint": "fingerprint",
    "recipe8": "fingerprint",
    "recipe_hash": "fingerprint",
    "Store": "reader",
    "open_store": "reader",
    "ShardWriter": "shard",
    "Writer": "writer",
    "begun_facts": "writer",
    "open_writer": "writer",
}

__all__ = [
    "ShardWriter",
    "Store",
    "StoreDamaged",
    "StoreError",
    "StoreIncomplete",
    "StoreMismatch",
    "StoreMissing",
    "StoreTooNew",
    "StoreWriteFailed",
    "UnknownId",
    "Writer",
    "begun_facts",
    "diff_facts",
    "fingerprint",
    "open_store",
    "open_writer",
    "recipe8",
    "recipe_hash",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"umecache.stores.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
