"""How an encoder is run: memory format, compilation (sizing.py has the batch size). None of it is in the recipe.

What is chosen is noted in the store's `origin`: it may move the last bits of a value, as another machine may.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from umecache.data.sounds import wav_bytes
from umecache.encoders.base import Encoder, Json, Prepared
from umecache.errors import UsageError
from umecache.extraction.config import ExtractConfig


def tune(encoder: Encoder, config: ExtractConfig) -> dict[str, Json]:
    """Lay out and compile the network as asked; returns what the store's `origin` says of it.

    Raises:
        UsageError: torch.compile does not work here.
    """
    facts: dict[str, Json] = {}
    if config.channels_last:
        encoder.module.to(memory_format=torch.channels_last)
        facts["memory_format"] = "channels_last"
    if config.compile:
        # Texts and sounds come in every length: one graph for all of them instead of one each.
        encoder.module.compile(dynamic=None if encoder.modality == "image" else True)
        facts["compiled"] = True
        try:
            device = next(encoder.module.parameters()).device
            batch = encoder.collate([example(encoder)] * 2)
            with torch.inference_mode():
                encoder.encode({name: tensor.to(device) for name, tensor in batch.items()})
        except Exception as error:  # each backend of torch.compile fails in its own way
            raise UsageError(
                f"torch.compile does not work for {encoder.name} here.",
                why=(str(error).strip() or type(error).__name__).splitlines()[0][:200],
                next="leave out --compile",
            ) from error
    return facts


def example(encoder: Encoder) -> Prepared:
    """A made-up input, for a first run."""
    if encoder.modality == "text":
        return encoder.prepare("what is the colour of the small cup on the table?")
    if encoder.modality == "audio":
        return encoder.prepare(wav_bytes(np.zeros(160_000, np.float32), 16_000))
    data = io.BytesIO()
    Image.new("RGB", (640, 480), (90, 120, 150)).save(data, "PNG")
    return encoder.prepare(data.getvalue())


def store_origin(
    encoder: Encoder, model_args: Mapping[str, Json], tuned: Mapping[str, Json], size: int
) -> dict[str, Any]:
    """The `origin` of a store: the encoder's own, what it takes to make it again, and how it is run."""
    return {**encoder.origin, "model_args": dict(model_args), **tuned, "batch_size": size}
