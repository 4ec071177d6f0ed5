"""Stored dtypes: what each keeps, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from umecache.stores import StoreError, StoreWriteFailed
from umecache.stores.dtypes import DTYPES, OUTLIER_ERROR, decode_into, decoded_dtype, encode, row_bytes, stored_dtype

FLOATS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
    elements=st.floats(-(2.0**99), 2.0**99, width=32),
)


def decoded(dtype: str, x: np.ndarray) -> np.ndarray:
    stored = encode(dtype, x, "x")
    out = np.full(x.shape, np.nan, np.float32)
    decode_into(out, dtype, stored.tokens, stored.scale)
    if stored.exact_rows is not None:
        out[stored.exact_rows] = stored.exact
    return out


@given(FLOATS)
@settings(max_examples=60, deadline=None)
def test_bfloat16_is_torch_s(x: np.ndarray) -> None:
    expected = torch.from_numpy(x).to(torch.bfloat16)
    stored = encode("bfloat16", x, "x")
    assert np.array_equal(stored.tokens.view(np.int16), expected.view(torch.int16).numpy())
    assert np.array_equal(decoded("bfloat16", x), expected.float().numpy())


@given(FLOATS)
@settings(max_examples=60, deadline=None)
def test_int8_is_within_half_a_step(x: np.ndarray) -> None:
    stored = encode("int8", x, "x")
    assert stored.scale is not None
    step = np.where(stored.scale > 0, stored.scale, 0)[:, None].astype(np.float64)
    error = np.abs(decoded("int8", x).astype(np.float64) - x)
    assert (error <= step * 0.5000001 + np.abs(x) * 1e-6).all()


@given(FLOATS)
@settings(max_examples=30, deadline=None)
def test_float32_keeps_everything(x: np.ndarray) -> None:
    assert np.array_equal(decoded("float32", x), x)


def test_encoding_again_changes_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)
    for dtype in ("float16", "bfloat16", "float32"):
        once = decoded(dtype, x)
        assert np.array_equal(decoded(dtype, once), once)


@pytest.mark.parametrize("value", [65520.0, -1e30])
def test_float16_refuses_with_advice(value: float) -> None:
    x = np.ones((2, 3), np.float32)
    x[1, 2] = value
    with pytest.raises(StoreWriteFailed, match=r"id 25 reach .* float16 can't hold.*--dtype bfloat16"):
        encode("float16", x, "id 25")
    assert decoded("bfloat16", x)[1, 2] == pytest.approx(value, rel=0.01)
    x[1, 2] = 65504
    assert decoded("float16", x)[1, 2] == 65504


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given_as", [np.float16, np.float32])
def test_numbers_that_are_none_are_refused(dtype: str, given_as: type) -> None:
    for value in (np.nan, np.inf, -np.inf):
        x = np.ones((2, 3), given_as)
        x[0, 1] = value
        with pytest.raises(StoreWriteFailed, match="id 7"):
            encode(dtype, x, "id 7")


def test_bfloat16_overflow_by_rounding() -> None:
    with pytest.raises(StoreWriteFailed, match="bfloat16"):
        encode("bfloat16", np.full((1, 1), np.finfo(np.float32).max, np.float32), "x")


def test_all_zero_and_tiny_tokens() -> None:
    x = np.zeros((3, 8), np.float32)
    x[1] = 1e-44  # its scale would be subnormal
    assert np.array_equal(decoded("int8", x), x)


def test_massive_activations_are_kept_exactly() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 768)).astype(np.float32)
    x[2, 13] = 900  # one value out of scale, as vision transformers and LLMs have
    stored = encode("int8", x, "x")
    assert stored.exact_rows is not None
    assert stored.exact_rows.tolist() == [2]
    assert np.array_equal(decoded("int8", x)[2], x[2])
    error = decoded("int8", x) - x
    assert np.sqrt((error**2).sum() / (x**2).sum()) < 0.01


def test_sparse_activations_are_no_outliers() -> None:
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(6, 1280)) - 1.5, 0).astype(np.float32)  # as after a ReLU
    stored = encode("int8", x, "x")
    assert stored.exact_rows is not None
    assert not len(stored.exact_rows)
    assert np.array_equal(decoded("int8", x)[x == 0], x[x == 0])


def test_the_rule_is_the_stated_one() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(64, 200)).astype(np.float32)
    x[:, 0] = np.linspace(5, 120, 64)
    stored = encode("int8", x, "x")
    assert stored.exact_rows is not None
    rest = np.sort(np.abs(x), axis=1)[:, :-3].astype(np.float64)  # all but the largest 1 %, here 3
    scale = np.abs(x).max(axis=1, keepdims=True) / 127
    error = np.sqrt(((np.rint(rest / scale) * scale - rest) ** 2).sum(1) / (rest**2).sum(1))
    assert stored.exact_rows.tolist() == np.flatnonzero(error > OUTLIER_ERROR).tolist()
    assert 0 < len(stored.exact_rows) < 64


def test_sizes_and_names() -> None:
    assert [row_bytes(dtype, 768) for dtype in DTYPES] == [1536, 3072, 1536, 772]
    assert decoded_dtype("int8") == np.float32
    assert decoded_dtype("float16") == np.float16
    with pytest.raises(StoreError, match="Unknown dtype 'fp8'"):
        stored_dtype("fp8")


def test_decoding_into_other_buffers() -> None:
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    stored = encode("bfloat16", x, "x")
    wide = np.zeros((4, 12), np.float64)
    decode_into(wide[:, ::2], "bfloat16", stored.tokens)
    assert np.array_equal(wide[:, ::2], decoded("bfloat16", x))
    half = np.zeros((4, 6), np.float16)
    stored = encode("int8", x, "x")
    decode_into(half, "int8", stored.tokens, stored.scale)
    assert np.allclose(half, x, atol=0.03)
