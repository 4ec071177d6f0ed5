"""Who a store is: the recipe hash names how values are made, the fingerprint adds of what.

    recipe8(recipe)                        # '3f9a1c02', the end of the folder's name: bert-3f9a1c02
    fingerprint(recipe, ids, digests)      # equal for two people who extract the same thing
    diff_facts(manifest_a, manifest_b)     # in words, what differs

Both are sha256 over canonical JSON (`files.canonical`): sorted keys, no spaces, UTF-8. Neither sees names, paths,
formats, times, batch sizes, machines or library versions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.stores.files import canonical

_HEX = frozenset("0123456789abcdef")


def recipe_hash(recipe: Mapping[str, Any]) -> str:
    """Hex sha256 of everything that decides values: weights, preprocessing, layers, dtype, padding policy."""
    return hashlib.sha256(canonical(dict(recipe))).hexdigest()


def recipe8(recipe: Mapping[str, Any]) -> str:
    """The first eight hex digits of `recipe_hash`, for folder names."""
    return recipe_hash(recipe)[:8]


def digest_bytes(digest: str) -> bytes:
    """32 bytes for an input: its hex sha256 as it is; any other text (say `missing:12`) hashed."""
    if len(digest) == 64 and _HEX.issuperset(digest):
        return bytes.fromhex(digest)
    return hashlib.sha256(digest.encode()).digest()


def digest_array(digests: Iterable[str]) -> NDArray[np.uint8]:
    """`digest_bytes` of each, as one [n, 32] array."""
    raw = b"".join(digest_bytes(digest) for digest in digests)
    return np.frombuffer(raw, np.uint8).reshape(-1, 32)


def fingerprint(
    recipe: Mapping[str, Any], ids: Sequence[int] | Sequence[str] | NDArray[np.int64], digests: NDArray[np.uint8]
) -> str:
    """Hex sha256 of the recipe hash and the ordered (id, digest) pairs.

    What is hashed is text, so that anyone can recompute it: the recipe hash, a newline, then for each id its JSON form,
    a tab, the digest in hex, a newline.

    Args:
        digests: [n, 32] uint8, see `digest_array`.
    """
    total = hashlib.sha256(f"{recipe_hash(recipe)}\n".encode())
    step = 1 << 14
    for first in range(0, len(ids), step):
        some = ids[first : first + step]
        names = [str(i) for i in some.tolist()] if isinstance(some, np.ndarray) else [_json(name) for name in some]
        raw = digests[first : first + step].tobytes().hex()
        text = "".join(f"{name}\t{raw[64 * i : 64 * i + 64]}\n" for i, name in enumerate(names))
        total.update(text.encode())
    return total.hexdigest()


def _json(name: int | str) -> str:
    # What json.dumps(name, ensure_ascii=False) gives, without its overhead for each of a million ids.
    return encode_basestring(name) if isinstance(name, str) else str(name)


def diff_facts(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two sets of facts, one line each: `recipe.layers: 'last' here, '-2' there`."""
    lines = []
    for key in sorted(a.keys() | b.keys()):
        name = f"{prefix}{key}"
        if key not in a:
            lines.append(f"{name}: absent in the first, {_short(b[key])} in the second")
        elif key not in b:
            lines.append(f"{name}: {_short(a[key])} in the first, absent in the second")
        elif isinstance(a[key], Mapping) and isinstance(b[key], Mapping):
            lines += diff_facts(a[key], b[key], f"{name}.")
        elif canonical(a[key]) != canonical(b[key]):
            lines.append(f"{name}: {_short(a[key])} in the first, {_short(b[key])} in the second")
    return lines


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
