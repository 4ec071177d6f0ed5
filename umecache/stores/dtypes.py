"""How hidden states become stored values, and back.

    stored = encode("int8", x_TD, who="image 25")
    decode_into(out_TD, "int8", stored.tokens, stored.scale, exact_TD)

| dtype | array `tokens` | bytes per value | what is lost |
|---|---|---|---|
| float32 | float32 | 4 | nothing |
| float16 | float16 | 2 | 11 significant bits kept; |x| > 65504 is refused |
| bfloat16 | uint16: the upper half of the float32 | 2 | 8 significant bits kept, float32's range |
| int8 | int8, with `scale` [rows] and `exact` [rows, D] | 1 + 4 / D | steps of max|x| / 127 per token |

int8 (symmetric, one scale per token): `x = tokens * scale[:, None] + exact`. A token whose largest values would leave
too little for the others (massive activations: Sun et al. 2024, arXiv:2402.17762) is an outlier: it is kept in
float32 in `exact`, its scale is 0. All other rows of `exact` are absent and read as 0.

Letters: T tokens of one record, D width, m outlier tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.stores.errors import StoreError, StoreWriteFailed

DTYPES = ("float16", "float32", "bfloat16", "int8")

_STORED = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2", "int8": "|i1"}

DECODE = {
    "float32": "the values themselves",
    "float16": "the values themselves",
    "bfloat16": "float32 whose upper 16 bits are the stored uint16: (uint32(tokens) << 16) viewed as float32",
    "int8": "float32: tokens * scale[:, None] + exact, rows of exact that are absent being 0",
}
"""What the manifest says about reading each dtype with any tool."""

OUTLIER_ERROR = 0.05
"""A token is an outlier where int8 steps would move its values, the largest 1 % aside, by more than this (RMS)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One record as it is stored; `scale`, `exact_rows` and `exact` belong to int8 only."""

    tokens: NDArray[Any]  # [T, D]
    scale: NDArray[np.float32] | None = None  # [T]
    exact_rows: NDArray[np.int64] | None = None  # [m], rows within the record
    exact: NDArray[np.float32] | None = None  # [m, D]


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """Padded records as they are stored: `tokens * scale` with `exact` on top where it is int8."""

    tokens: NDArray[Any]  # [B, T, D], zero behind each record
    mask: NDArray[np.bool_]  # [B, T]
    scale: NDArray[np.float32] | None  # [B, T]
    exact_at: NDArray[np.int64]  # [m, 2], record and token of each outlier
    exact: NDArray[np.float32]  # [m, D]


def stored_dtype(dtype: str) -> np.dtype[Any]:
    """The little-endian type of the array `tokens`.

    Raises:
        StoreError: `dtype` is none of `DTYPES`.
    """
    if dtype not in _STORED:
        raise StoreError(f"Unknown dtype {dtype!r}.", why=f"Stores know {', '.join(DTYPES)}.")
    return np.dtype(_STORED[dtype])


def decoded_dtype(dtype: str) -> np.dtype[Any]:
    """The type of `store[id]`: float16 and float32 as they are, float32 for the others."""
    return np.dtype("<f2" if dtype == "float16" else "<f4")


def row_bytes(dtype: str, dim: int) -> int:
    """Bytes of one stored token without its outliers."""
    return stored_dtype(dtype).itemsize * dim + (4 if dtype == "int8" else 0)


def encode(dtype: str, x_TD: NDArray[Any], who: str) -> Stored:
    """Turn hidden states into stored values.

    Args:
        x_TD: float16 or float32.
        who: names the record in errors.

    Raises:
        StoreWriteFailed: a value is not finite, or too large for `dtype`.
    """
    target = stored_dtype(dtype)
    if dtype in ("float16", "float32"):
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(x_TD, target)
        if not _finite(values):
            _refuse(x_TD, dtype, who)
        return Stored(values)
    x = np.ascontiguousarray(x_TD, np.float32)
    if not _finite(x):
        _refuse(x, dtype, who)
    return Stored(_to_bfloat16(x, who)) if dtype == "bfloat16" else _to_int8(x)


def _finite(values: NDArray[Any]) -> bool:
    # All exponent bits set means infinite or NaN; on integers this is several times faster than np.isfinite.
    if not values.size:
        return True
    if values.dtype.itemsize == 2:
        return bool((values.view(np.uint16) & 0x7FFF).max() < 0x7C00)
    return bool((values.view(np.uint32) & 0x7FFFFFFF).max() < 0x7F800000)


def _refuse(x: NDArray[Any], dtype: str, who: str) -> None:
    if np.isnan(x).any():
        raise StoreWriteFailed(
            f"The hidden states of {who} hold NaN.",
            why="The encoder itself gives no number here; a cache of it would be worthless.",
            next="Run the encoder in a wider type, or on another attention backend.",
        )
    largest = float(np.abs(x).max())
    raise StoreWriteFailed(
        f"The hidden states of {who} reach {largest:.6g}, which {dtype} can't hold.",
        why="float16 ends at 65504; models trained in bfloat16 (T5 and its kin) go beyond.",
        next="Run the same command with --dtype bfloat16.",
    )


def _to_bfloat16(x: NDArray[np.float32], who: str) -> NDArray[np.uint16]:
    # Round to nearest, ties to even, on the bits: what torch and hardware do.
    bits = x.view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16
    if ((rounded & 0x7FFF) >= 0x7F80).any():  # within 0.4 % of float32's end
        _refuse(np.full(1, np.inf, np.float32), "bfloat16", who)
    return rounded.astype("<u2")


def _to_int8(x_TD: NDArray[np.float32]) -> Stored:
    peak_T = np.abs(x_TD).max(axis=1, initial=0)
    scale_T = (peak_T / np.float32(127)).astype("<f4")
    exact_rows = np.flatnonzero(_is_outlier(x_TD, peak_T, scale_T))
    exact = x_TD[exact_rows].astype("<f4")
    scale_T[exact_rows] = 0
    # All-zero tokens, and those so small that their scale underflows, have scale 0: guard the division.
    safe_T = np.where(scale_T > 0, scale_T, np.float32(1))
    tokens = np.clip(np.rint(x_TD / safe_T[:, None]), -127, 127)
    tokens[scale_T == 0] = 0
    return Stored(tokens.astype(np.int8), scale_T, exact_rows.astype(np.int64), exact)


def _is_outlier(x_TD: NDArray[np.float32], peak_T: NDArray[np.float32], scale_T: NDArray[np.float32]) -> NDArray[Any]:
    dim = x_TD.shape[1]
    outlier_T = (peak_T > 0) & (scale_T < np.finfo(np.float32).tiny)  # a scale that is subnormal loses its precision
    # Cheap test first: a peak of less than 8 RMS can't squeeze the rest (its error stays below 2 %).
    rms_T = np.sqrt(np.mean(np.square(x_TD, dtype=np.float64), axis=1))
    for row in np.flatnonzero(~outlier_T & (peak_T > min(8.0, 0.5 * dim**0.5) * rms_T)):
        rest = np.sort(np.abs(x_TD[row]))[: dim - (dim // 100 + 1)].astype(np.float64)
        error = rest - np.rint(rest / scale_T[row]) * scale_T[row]
        outlier_T[row] = np.square(error).sum() > OUTLIER_ERROR**2 * np.square(rest).sum()
    return outlier_T


def decode_into(
    out_TD: NDArray[Any], dtype: str, tokens_TD: NDArray[Any], scale_T: NDArray[np.float32] | None = None
) -> None:
    """Decode a record into the caller's buffer in one pass; the int8 outliers are for the caller to put on top.

    Args:
        out_TD: any float type; written, shape of `tokens_TD`.
    """
    if dtype == "bfloat16":
        if out_TD.dtype == np.float32 and out_TD.flags.c_contiguous:
            np.left_shift(tokens_TD, np.uint32(16), out=out_TD.view(np.uint32), dtype=np.uint32)
        else:
            out_TD[...] = (tokens_TD.astype(np.uint32) << np.uint32(16)).view(np.float32)
    elif dtype == "int8":
        assert scale_T is not None
        with np.errstate(all="ignore"):  # a damaged scale must not warn; verify names it
            np.multiply(tokens_TD, scale_T[:, None], out=out_TD, dtype=np.float32, casting="same_kind")
    else:
        out_TD[...] = tokens_TD
