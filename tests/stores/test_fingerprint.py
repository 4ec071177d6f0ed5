"""Fingerprints: equal for equal recipes and inputs, whoever computes them."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from umecache.stores.fingerprint import diff_facts, digest_array, fingerprint, recipe8, recipe_hash

RECIPE = {"weights_sha256": "00", "layers": "last", "mean": [0.5, 0.5, 0.5]}


def test_the_recipe_hash_is_that_of_canonical_json() -> None:
    text = '{"layers":"last","mean":[0.5,0.5,0.5],"weights_sha256":"00"}'
    assert recipe_hash(RECIPE) == hashlib.sha256(text.encode()).hexdigest()
    assert recipe8(dict(reversed(RECIPE.items()))) == recipe_hash(RECIPE)[:8]


@given(st.lists(st.text(max_size=4), unique=True, max_size=6) | st.lists(st.integers(-9, 9), unique=True, max_size=6))
def test_the_fingerprint_is_the_documented_text(ids: list[str] | list[int]) -> None:
    ids = [name for name in ids if not isinstance(name, str) or name.isprintable()]  # type: ignore[assignment]
    digests = digest_array([f"missing:{name}" for name in ids])
    lines = [
        f"{json.dumps(name, ensure_ascii=False)}\t{row.tobytes().hex()}\n"
        for name, row in zip(ids, digests, strict=True)
    ]
    text = f"{recipe_hash(RECIPE)}\n{''.join(lines)}"
    assert fingerprint(RECIPE, ids, digests) == hashlib.sha256(text.encode()).hexdigest()


def test_what_changes_it_and_what_does_not() -> None:
    digests = digest_array(["a" * 64, "b" * 64])
    base = fingerprint(RECIPE, [1, 2], digests)
    assert base == fingerprint(RECIPE, np.array([1, 2]), digests)
    assert base != fingerprint(RECIPE, [2, 1], digests)
    assert base != fingerprint(RECIPE, [1, 2], digests[::-1])
    assert base != fingerprint(RECIPE, ["1", "2"], digests)
    assert base != fingerprint({**RECIPE, "dtype": "int8"}, [1, 2], digests)


def test_digests_that_are_no_sha256_are_hashed() -> None:
    hexed, text, shouted = digest_array(["0a" * 32, "missing:7", "0A" * 32])
    assert hexed.tobytes() == b"\x0a" * 32
    assert text.tobytes() == hashlib.sha256(b"missing:7").digest()
    assert shouted.tobytes() == hashlib.sha256(b"0A" * 32).digest()
    assert digest_array([]).shape == (0, 32)


def test_differences_in_words() -> None:
    a = {"recipe": {"layers": "last", "size": 224}, "model": "vit", "grid": None}
    b = {"recipe": {"layers": "-2", "size": 224, "crop": True}, "model": "vit"}
    assert diff_facts(a, b) == [
        "grid: null in the first, absent in the second",
        "recipe.crop: absent in the first, true in the second",
        'recipe.layers: "last" in the first, "-2" in the second',
    ]
    assert diff_facts(a, a) == []
