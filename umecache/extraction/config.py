"""What `umecache extract` was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from umecache.encoders.base import EncoderOptions
from umecache.errors import UsageError

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One encoder to run: its name in the registry (or `hf:`, `timm:`, a folder) and how to build it."""

    name: str
    options: EncoderOptions = field(default_factory=EncoderOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractConfig:
    """Everything that stage one needs to know; the defaults are those of the command line."""

    models: tuple[ModelRequest, ...]
    data: str | None = None  # a folder or a name; None: VQA v2 under UMECACHE_HOME
    splits: tuple[str, ...] | None = None  # None: train and val, where the data has them
    store: Path | None = None  # the folder that takes the place of STORES/DATASET/MODEL-RECIPE8
    format: str = "zarr"
    dtype: str = "float16"  # of the stored values
    precision: Precision = "float32"  # of the encoder's arithmetic; decides values, so it is in the recipe
    batch_size: int | None = None  # records; None: by device and modality
    shard_records: int | None = None  # None: shards of about the same size in bytes
    limit: int | None = None  # the first N questions of each split, and their images
    device: str = "auto"
    workers: int | None = None  # threads that read and decode; None: by cores
    compile: bool = False  # torch.compile the encoder
    channels_last: bool = False  # memory format of convolutions: often faster on GPUs and newer CPUs

    def __post_init__(self) -> None:
        if not self.models:
            raise UsageError("No model was named.", next="umecache extract --model minilm --model mobilenetv2")
        if self.store is not None and len(self.models) > 1:
            raise UsageError(
                f"--store names one model's folder, but {len(self.models)} models were asked for.",
                next="run extract once per model, or leave --store out",
            )
        for name in ("batch_size", "shard_records", "limit", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {value}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSummary:
    """One finished store, as `extract --json` prints it."""

    path: str
    model: str
    split: str
    modality: str
    format: str
    records: int  # ids
    tokens: int  # tokens stored, shared records counted once
    dim: int
    bytes: int  # on disk
    failed: int  # inputs that could not be read
    seconds: float
    recipe: str
    fingerprint: str
    encoded: int = 0  # records this run encoded; 0 when the store was complete before
    failures: Mapping[Any, str] = field(default_factory=dict)  # id -> reason
