"""`umecache plan`: what an extraction will take, from a probe of a few real batches.

    document = estimate(config, epochs=10)

- items, tokens: exact for texts, which are tokenized, and sounds, whose headers are read; images are counted as the
  files that are there (equal files, which are stored once, show only when they are read).
- bytes: tokens x width x bytes per value, for the layers asked for, and per dtype and layer; without indices.
- seconds: a few batches go through the same pipeline as an extraction, results thrown away; texts and sounds are scaled
  by their tokens, images by their number.
- break-even: without a cache every epoch of every fusion run encodes each question's text and its image again; with
  it, each distinct input is encoded once and read in every epoch (at READ_RATE, a slow disk's).
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import numpy as np
import torch

from umecache.data.dataset import Dataset, Split, open_dataset
from umecache.encoders.base import Encoder
from umecache.errors import UsageError
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.devices import Place, parse_devices
from umecache.extraction.encode import ShardEncoder
from umecache.extraction.extract import choose_splits, encoder_context, load_views
from umecache.extraction.inputs import (
    MISSING,
    FileFacts,
    Inputs,
    default_workers,
    file_inputs,
    look_at_files,
    question_inputs,
)
from umecache.extraction.jobs import plan_lengths, prepare_texts, store_folder, store_recipe
from umecache.extraction.sizing import usual_size
from umecache.extraction.space import free_bytes
from umecache.extraction.tuning import tune
from umecache.reporting import Reporter, Silent
from umecache.stores.dtypes import DTYPES, encode, row_bytes

PROBE_SECONDS = 10.0  # for each encoder, about
PROBE_BATCHES = 3  # at most
DEVICES = (1, 2, 4, 8)
CPU = torch.device("cpu")
READ_RATE = 1e9  # bytes per second that stage two reads, careful: a warm page cache gives ten times as much


@dataclass
class Bin:
    """A shard that goes nowhere: values are made as they would be stored, and dropped."""

    records: Sequence[int]
    dtype: str
    written: int = field(default=0)

    def write(self, position: int, *values_TD: np.ndarray[Any, Any]) -> None:
        """Make the stored form."""
        for layer_TD in values_TD:
            encode(self.dtype, layer_TD, who=f"input {position}")
        self.written += 1

    def fail(self, position: int, reason: str, file_sha256: str | None) -> None:
        """Nothing: plans don't list failures."""

    def __enter__(self) -> Bin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Probe:
    """A few batches, measured."""

    items: int
    tokens: int
    seconds: float
    peak_memory_bytes: int


def estimate(config: ExtractConfig, *, epochs: int = 10, reporter: Reporter | None = None) -> dict[str, Any]:
    """What `extract` with this `config` will take, per model and in total, as `plan --json` prints it.

    Args:
        epochs: of one fusion run, for the break-even.

    Raises:
        UmecacheError: as `extract`: a model, data or options that can't be.
    """
    reporter = reporter or Silent()
    place = Place(torch.device(parse_devices(config.device)[0]))
    dataset = open_dataset(config.data)
    splits = [
        dataset.split(name, limit=config.limit, annotations=False) for name in choose_splits(dataset, config.splits)
    ]
    models = []
    for model in config.models:
        reporter.say(f"{model.name}: a few batches on {place.device}")
        models.append(_estimate_model(config, model, dataset, splits, place, epochs, reporter))
    free = min(free_bytes(store_path) for store_path in (m.pop("folder") for m in models))
    total = {key: sum(m[key] for m in models) for key in ("items", "tokens", "bytes", "seconds", "in_loop_seconds")}
    return {
        **total,
        "bytes_by_dtype": {dtype: sum(m["bytes_by_dtype"][dtype] for m in models) for dtype in DTYPES},
        "hours": _hours(total["seconds"]),
        "peak_memory_bytes": max(m["peak_memory_bytes"] for m in models),
        "free_bytes": free,
        "fits": total["bytes"] <= free,
        "epochs": epochs,
        "break_even_runs": break_even(
            total["seconds"], total["in_loop_seconds"], sum(m["read_seconds"] for m in models), epochs
        ),
        "device": str(place.device),
        "dtype": config.dtype,
        "models": models,
    }


def break_even(extract_seconds: float, in_loop_seconds: float, read_seconds: float, epochs: int) -> int | None:
    """Fusion runs after which caching has taken less time than encoding in every epoch; None: never.

    Args:
        in_loop_seconds, read_seconds: of one epoch.
    """
    gain = epochs * (in_loop_seconds - read_seconds)
    return max(1, math.ceil(extract_seconds / gain)) if gain > 0 else None


def _estimate_model(
    config: ExtractConfig,
    model: ModelRequest,
    dataset: Dataset,
    splits: Sequence[Split],
    place: Place,
    epochs: int,
    reporter: Reporter,
) -> dict[str, Any]:
    views = load_views(model, encoder_context(model, dataset, config, reporter), place)
    encoder = views[0]
    tune(encoder, config)
    size = usual_size(config, views, place.device)
    counted = [_count(encoder, split) for split in splits]
    probe = next((found for each in counted if (found := _probe(config, views, each, size, place)) is not None), None)
    if probe is None:
        raise UsageError(f"{dataset.folder} has no input that {model.name} can read.", next="umecache data info")
    items, tokens = sum(each.items for each in counted), sum(each.tokens for each in counted)
    # One image takes as long as another; texts and sounds take their tokens.
    by_tokens = encoder.fixed_length is None
    unit = probe.seconds / (probe.tokens if by_tokens else probe.items)
    seconds = unit * (tokens if by_tokens else items)
    # An epoch trains on one split; scoring is left out, once a run.
    asked = next((each for each in counted if each.split == "train"), counted[0])
    in_loop = unit * (asked.asked_tokens if by_tokens else asked.asked)
    stored = {_layer(view): tokens if view.fixed_length is None else items * view.fixed_length for view in views}
    by_dtype = {d: sum(stored[_layer(view)] * row_bytes(d, view.dim) for view in views) for d in DTYPES}
    every = [encoder.at(name) for name in encoder.layer_names()]
    by_layer = {
        _layer(view): row_bytes(config.dtype, view.dim) * (items * view.fixed_length if view.fixed_length else tokens)
        for view in every
    }
    read = by_dtype[config.dtype] * asked.asked / max(items, 1) / READ_RATE
    return {
        "model": model.name,
        "modality": encoder.modality,
        "layers": list(stored),
        "splits": {each.split: {"items": each.items, "tokens": each.tokens, "asked": each.asked} for each in counted},
        "items": items,
        "tokens": sum(stored.values()),
        "dim": encoder.dim,
        "bytes": by_dtype[config.dtype],
        "bytes_by_dtype": by_dtype,
        "bytes_by_layer": by_layer,
        "seconds": seconds,
        "hours": _hours(seconds),
        "items_per_second": items / seconds if seconds else None,
        "in_loop_seconds": in_loop,
        "read_seconds": read,
        "peak_memory_bytes": probe.peak_memory_bytes,
        "batch_size": size,
        "break_even_runs": break_even(seconds, in_loop, read, epochs),
        "probed": {"items": probe.items, "seconds": round(probe.seconds, 3)},
        "folder": store_folder(config, model, dataset, store_recipe(config, encoder)),
    }


def _layer(view: Encoder) -> str:
    return str(view.recipe.get("layers", "last"))


@dataclass(frozen=True, slots=True)
class Counted:
    """The inputs of one split."""

    split: str
    inputs: Inputs
    prepared: Mapping[int, Any]
    lengths: Sequence[int]
    positions: Sequence[int]  # of distinct inputs that are there
    asked: int  # questions
    asked_tokens: int  # of all questions, repeats included; for images and sounds, of those they ask about

    @property
    def items(self) -> int:
        """Distinct inputs."""
        return len(self.positions)

    @property
    def tokens(self) -> int:
        """Of the distinct inputs."""
        return sum(self.lengths[position] for position in self.positions)


def _count(encoder: Encoder, split: Split) -> Counted:
    if encoder.modality == "text":
        inputs = question_inputs(split)
        prepared, bad = prepare_texts(encoder, inputs)
        inputs = Inputs(inputs.ids, inputs.digests, inputs.read, bad)
        positions = sorted(prepared)
    elif encoder.modality == "audio":
        inputs = file_inputs(split, "audio", look_at_files(split, "audio", Silent(), workers=default_workers(CPU)))
        prepared, bad = prepare_texts(encoder, inputs)
        inputs = replace(inputs, failures={**inputs.failures, **bad})
        positions = [p for p in range(len(inputs.ids)) if p not in inputs.failures]
    else:
        # Files are counted, not read: nothing is known of their content.
        there = (split.image_path(image_id) is not None for image_id in split.image_ids)
        facts = [FileFacts(failure="" if one else MISSING["image"]) for one in there]
        inputs, prepared = file_inputs(split, "image", facts), {}
        positions = [p for p in range(len(split.image_ids)) if p not in inputs.failures]
    lengths = plan_lengths(encoder, inputs, prepared)
    asked = len(split.questions)
    per_question = asked * (encoder.fixed_length or 0)
    if encoder.modality == "text":
        per_question = sum(lengths)
    elif encoder.modality == "audio":
        length_of = dict(zip(inputs.ids, lengths, strict=True))
        per_question = sum(
            length_of[question.audio_id] for question in split.questions if question.audio_id is not None
        )
    return Counted(split.name, inputs, prepared, lengths, positions, asked, per_question)


def _probe(config: ExtractConfig, views: Sequence[Encoder], counted: Counted, size: int, place: Place) -> Probe | None:
    """Encode a few of the inputs and time it; None where there is none."""
    if not counted.positions:
        return None
    # Evenly over all lengths, so that a few batches stand for all.
    order = sorted(counted.positions, key=lambda position: (counted.lengths[position], position))
    machine = ShardEncoder(
        views,
        counted.inputs,
        counted.lengths,
        prepared=counted.prepared,
        device=place.device,
        batch_size=size,
        precision=config.precision,
        dtype=config.dtype,
        workers=config.workers or default_workers(place.device),
    )

    def run(count: int) -> tuple[int, int, float]:
        chosen = [order[i * len(order) // count] for i in range(count)]
        sink = Bin(chosen, config.dtype)
        started = time.perf_counter()
        machine.encode([sink], lambda _: None)
        return sink.written, sum(counted.lengths[p] for p in chosen), time.perf_counter() - started

    try:
        if place.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(place.device)
        before = _peak(place)
        first = 1 if place.device.type == "cpu" else min(size, len(order))
        run(first)  # warms up
        _, _, once = run(first)
        count = max(1, min(len(order), PROBE_BATCHES * size, int(first * PROBE_SECONDS / max(once, 1e-6))))
        written, tokens, seconds = run(count)
    finally:
        machine.close()
    # A slow machine is probed with less than a batch, which then needs more.
    peak = round(before + (_peak(place) - before) * max(1.0, size / count))
    return Probe(count, tokens, seconds, peak) if written else None


def _peak(place: Place) -> int:
    """Most memory in use so far: the GPU's, else this process'."""
    if place.device.type == "cuda":
        return torch.cuda.max_memory_allocated(place.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _hours(seconds: float) -> dict[str, float]:
    return {str(devices): round(seconds / devices / 3600, 4) for devices in DEVICES}
