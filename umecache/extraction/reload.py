"""An encoder again, as a store declares it, and hidden states exactly as that store would hold them.

    declared = declaration(open_store("stores/daquar/minilm-056b7fa6/train"))
    encoder = reload_encoder(declared)                 # weights, tokenizer, preprocessing: compared fact by fact
    records = encode_items(encoder, declared, ["what is on the table?"])

A declaration is a few facts of the manifest, plain JSON, so that a run can carry it and answer without its stores. An
encoder that was trained by stage one itself (`lstm`) has its weights in the store only: there the store is needed.

Shapes: T tokens of one record, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from umecache.encoders.base import Encoder, EncoderOptions, Json, LoadContext
from umecache.encoders.registry import load_encoder
from umecache.errors import UsageError
from umecache.extraction.devices import autocast
from umecache.stores import Store, diff_facts
from umecache.stores.dtypes import decode_into, encode
from umecache.stores.errors import StoreMismatch
from umecache.stores.writer import FILES

_OF_THE_STORE = ("modality", "dtype", "precision")  # facts of a store's recipe that are not the encoder's own
_SHOWN = 4  # facts named in an error


def declaration(store: Store) -> dict[str, Json]:
    """What a store says of its encoder: `model`, `modality`, `dtype`, `recipe`, `origin`."""
    return {key: store.manifest.get(key) for key in ("model", "modality", "dtype", "recipe", "origin")}


def reload_encoder(
    declared: Mapping[str, Any],
    *,
    weights: str | None = None,
    store: Path | None = None,
    context: LoadContext | None = None,
) -> Encoder:
    """The encoder that made a store.

    Args:
        declared: `declaration` of the store.
        weights: a checkpoint folder or file; None: from the store itself, where it was read then, or the registry's.
        store: the store's folder, for an encoder whose files travel in it.
        context: as for `load_encoder`.

    Raises:
        StoreMismatch: other weights, another tokenizer or preprocessing than the store was made with.
        UmecacheError: no such model, no weights.
    """
    name, recipe, origin = str(declared["model"]), dict(declared["recipe"]), dict(declared.get("origin") or {})
    options = _options(recipe, origin, weights or _weights(name, origin, store))
    encoder = load_encoder(name, options, context)
    wanted = {key: value for key, value in recipe.items() if key not in _OF_THE_STORE}
    differing = diff_facts(wanted, encoder.recipe)
    if differing:
        more = f"; {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise StoreMismatch(
            f"{name} is not the encoder that the store was made with.",
            why="Store first, encoder second: " + "; ".join(differing[:_SHOWN]) + more + ".",
            next=f"--weights {name}=PATH with the checkpoint that was used",
        )
    return encoder


def encode_items(
    encoder: Encoder, declared: Mapping[str, Any], items: Sequence[str | bytes], *, device: torch.device | None = None
) -> list[NDArray[Any]]:
    """Hidden states [T, D] of each input, rounded to the store's dtype as if they had been stored and read again.

    Raises:
        UnreadableInput: bytes that are no image.
        StoreWriteFailed: a value that the store's dtype can't hold.
    """
    device = device or torch.device("cpu")
    precision = str(dict(declared["recipe"]).get("precision", "float32"))
    prepared = encoder.prepare_many(items)
    lengths = [encoder.length(one) for one in prepared]
    batch = {key: value.to(device) for key, value in encoder.collate(prepared, pad_to=max(lengths)).items()}
    with torch.inference_mode(), autocast(device, precision):
        hidden_BTD = encoder.encode(batch).float().cpu().numpy()
    dtype = str(declared["dtype"])
    return [as_stored(row_TD[:n], dtype) for row_TD, n in zip(hidden_BTD, lengths, strict=True)]


def as_stored(x_TD: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """float32 [T, D] after the round trip through a store of that dtype."""
    stored = encode(dtype, x_TD, who="this input")
    out_TD = np.empty(x_TD.shape, np.float32)
    decode_into(out_TD, dtype, stored.tokens, stored.scale)
    if stored.exact_rows is not None:
        out_TD[stored.exact_rows] = stored.exact
    return out_TD


def _options(recipe: Mapping[str, Any], origin: Mapping[str, Any], weights: str | None) -> EncoderOptions:
    """What `extract` was told, from what it wrote down."""
    numbers = {key: tuple(recipe[key]) for key in ("mean", "std") if recipe.get(key) is not None}
    return EncoderOptions(
        weights=weights,
        layers=str(recipe.get("layers", "last")),
        model_args=dict(origin.get("model_args") or {}),
        image_size=recipe.get("image_size"),
        crop=bool(recipe.get("crop")),
        max_length=recipe.get("max_length"),
        seed=int(origin.get("seed") or 0),
        **numbers,
    )


def _weights(name: str, origin: Mapping[str, Any], store: Path | None) -> str | None:
    """Where the weights are; None: where the registry has them."""
    if store is not None and (store / FILES).is_dir():
        return str(store / FILES)
    told = origin.get("weights")
    if told is None or told == "random" or Path(told).exists():
        return told
    if origin.get("revision") is not None:
        return None  # from the hub, or its cache
    raise UsageError(
        f"The weights of {name} are no longer at {told}.",
        why="The run's stores were made with them.",
        next=f"--weights {name}=PATH",
    )
