"""What `umecache extract` was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from umecache.encoders.base import EncoderOptions
from umecache.errors import UsageError
from umecache.stores.dtypes import DTYPES
from umecache.stores.formats import known_formats

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One encoder to run: its name in the registry (or `hf:`, `timm:`, a folder) and how to build it.

    Several `layers` are encoded in one pass and stored apart; `("all",)` means every one the network has.
    """

    name: str
    options: EncoderOptions = field(default_factory=EncoderOptions)
    layers: tuple[str, ...] = ()  # none: `options.layers` alone

    @property
    def wanted(self) -> tuple[str, ...]:
        """The layers to store."""
        return self.layers or (self.options.layers,)


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
    ignore_space: bool = False  # start although the stores will not fit on the disk
    retry_failed: bool = False  # encode again what a finished store has on its failure list, where it can be read now
    log: Path | None = None  # a file that progress and remarks are added to; processes after the first: FILE.1, ...
    tracker: str | None = None  # of Accelerate's: tensorboard, wandb, ...
    channels_last: bool = False  # memory format of convolutions: often faster on GPUs and newer CPUs

    def __post_init__(self) -> None:
        for name, allowed in (("format", known_formats()), ("dtype", DTYPES), ("precision", get_args(Precision))):
            if (value := getattr(self, name)) not in allowed:
                raise UsageError(
                    f"--{name} {value!r} is not one of {', '.join(allowed)}.", next="umecache extract --help"
                )
        if not self.models:
            raise UsageError("No model was named.", next="umecache extract --model minilm --model mobilenetv2")
        if self.store is not None and len(self.models) > 1:
            raise UsageError(
                f"--store names one model's folder, but {len(self.models)} models were asked for.",
                next="run extract once per model, or leave --store out",
            )
        several = [model.name for model in self.models if len(model.wanted) > 1 or model.wanted == ("all",)]
        if several and self.store is not None:
            raise UsageError(
                f"--store names one store's folder, but several layers of {several[0]} were asked for.",
                next="leave --store out: each layer gets a folder of its own",
            )
        if several and self.compile:
            raise UsageError(
                f"--compile runs one layer at a time, not several of {several[0]}.", next="leave out --compile"
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
    layers: str
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
    encoded: int = 0  # records this process encoded; 0 when the store was complete before
    time: Mapping[str, float] = field(default_factory=dict)  # shares of this process' time: read, encode, write
    failures: Mapping[Any, str] = field(default_factory=dict)  # id -> reason
