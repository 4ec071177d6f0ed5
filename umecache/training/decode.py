"""Stored values to float32 on the device that trains: what crosses the bus is what lies on the disk.

    values = to_device(store.stored_rows(rows), device)     # float16, bfloat16 or int8 and its scales
    tokens_BTD, mask_BT = decode(values)

The same numbers as `Store.batch`, bit for bit. Letters: B records, T tokens, D width, m outlier tokens of int8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from umecache.stores.dtypes import StoredBatch


@dataclass(frozen=True, slots=True)
class Values:
    """A `StoredBatch` as tensors on one device."""

    tokens: Tensor  # [B, T, D] float32, float16, bfloat16 or int8
    mask: Tensor  # [B, T] bool
    scale: Tensor | None = None  # [B, T]
    exact_at: Tensor | None = None  # [m, 2]
    exact: Tensor | None = None  # [m, D]


def to_device(batch: StoredBatch, device: torch.device) -> Values:
    """Move a batch as it is stored; on a GPU through pinned memory and without waiting."""
    pinned = device.type == "cuda"

    def move(array: np.ndarray[Any, Any]) -> Tensor:
        tensor = as_stored(array)
        return (tensor.pin_memory() if pinned else tensor).to(device, non_blocking=pinned)

    some = len(batch.exact) > 0
    return Values(
        move(batch.tokens),
        move(batch.mask),
        None if batch.scale is None else move(batch.scale),
        move(batch.exact_at) if some else None,
        move(batch.exact) if some else None,
    )


def as_stored(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor over the same memory; uint16 holds bfloat16's bits and becomes that."""
    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def decode(values: Values) -> tuple[Tensor, Tensor]:
    """Tokens [B, T, D] float32 and their mask [B, T], on the device of `values`."""
    tokens_BTD = values.tokens.to(torch.float32)
    if values.scale is not None:
        tokens_BTD = tokens_BTD * values.scale[:, :, None]
    if values.exact_at is not None and values.exact is not None:
        tokens_BTD[values.exact_at[:, 0], values.exact_at[:, 1]] = values.exact
    return tokens_BTD, values.mask
