"""Cache frozen encoders once, compare multimodal fusion methods in minutes.

    store = umecache.open_store("stores/vqa-v2/minilm-1a2b3c4d/train")   # needs no torch
    run = umecache.load_run("runs/ume-0001")

Names are loaded when they are first used, so that `import umecache` costs next to nothing.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from umecache.data.dataset import open_dataset as open_dataset
    from umecache.encoders.base import Encoder as Encoder
    from umecache.encoders.registry import load_encoder as load_encoder
    from umecache.errors import UmecacheError as UmecacheError
    from umecache.extraction.config import ExtractConfig as ExtractConfig
    from umecache.extraction.extract import extract as extract
    from umecache.fusion.base import Fusion as Fusion
    from umecache.sharing.reading import open_store as open_store
    from umecache.training.compare import compare as compare
    from umecache.training.fuse import fuse as fuse
    from umecache.training.runs import load_run as load_run

_HOMES = {
    "Encoder": "umecache.encoders.base",
    "ExtractConfig": "umecache.extraction.config",
    "Fusion": "umecache.fusion.base",
    "UmecacheError": "umecache.errors",
    "compare": "umecache.training.compare",
    "extract": "umecache.extraction.extract",
    "fuse": "umecache.training.fuse",
    "load_encoder": "umecache.encoders.registry",
    "load_run": "umecache.training.runs",
    "open_dataset": "umecache.data.dataset",
    "open_store": "umecache.sharing.reading",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'umecache' has no attribute {name!r}")
    return resolve_name(f"{_HOMES[name]}:{name}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
