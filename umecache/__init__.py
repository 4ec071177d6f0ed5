"""Cache frozen encoders once, compare multimodal fusion methods in minutes.

    umecache.extract(["minilm", "mobilenetv2"], data="vqa-v2")           # the commands as functions
    run = umecache.fuse(method="ume", data="vqa-v2", seeds=3)
    run.accuracy, run.std, run.path
    store = umecache.open_store("stores/vqa-v2/minilm-1a2b3c4d/train")   # needs no torch

Names are loaded when they are first used, so that `import umecache` costs next to nothing.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from umecache.api.calls import compare as compare
    from umecache.api.calls import extract as extract
    from umecache.api.calls import fuse as fuse
    from umecache.api.calls import predict as predict
    from umecache.api.calls import predict_split as predict_split
    from umecache.data.dataset import open_dataset as open_dataset
    from umecache.encoders.base import Encoder as Encoder
    from umecache.encoders.registry import load_encoder as load_encoder
    from umecache.errors import UmecacheError as UmecacheError
    from umecache.extraction.config import ExtractConfig as ExtractConfig
    from umecache.fusion.base import Fusion as Fusion
    from umecache.fusion.registry import build_fusion as build_fusion
    from umecache.loading.examples import open_examples as open_examples
    from umecache.loading.torch_data import TokenDataset as TokenDataset
    from umecache.loading.torch_data import data_loader as data_loader
    from umecache.sharing.reading import open_store as open_store
    from umecache.stores import Store as Store
    from umecache.training.runs import Run as Run
    from umecache.training.runs import load_run as load_run

_HOMES = {
    "Encoder": "umecache.encoders.base",
    "ExtractConfig": "umecache.extraction.config",
    "Fusion": "umecache.fusion.base",
    "Run": "umecache.training.runs",
    "Store": "umecache.stores",
    "TokenDataset": "umecache.loading.torch_data",
    "UmecacheError": "umecache.errors",
    "build_fusion": "umecache.fusion.registry",
    "compare": "umecache.api.calls",
    "data_loader": "umecache.loading.torch_data",
    "extract": "umecache.api.calls",
    "fuse": "umecache.api.calls",
    "load_encoder": "umecache.encoders.registry",
    "load_run": "umecache.training.runs",
    "open_dataset": "umecache.data.dataset",
    "open_examples": "umecache.loading.examples",
    "open_store": "umecache.sharing.reading",
    "predict": "umecache.api.calls",
    "predict_split": "umecache.api.calls",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'umecache' has no attribute {name!r}")
    return resolve_name(f"{_HOMES[name]}:{name}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
