"""Receipts: what they say is checked before it is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

from tests.stores.toy import Toy, write
from umecache.stores import StoreDamaged
from umecache.stores.dtypes import encode
from umecache.stores.receipts import (
    Failure,
    FileFact,
    Receipt,
    crc32c,
    files_present,
    parse_receipt,
    read_receipt,
    receipt_name,
)

RECEIPT = Receipt(
    shard=3,
    start=30,
    rows=7,
    ids=(5, "six"),
    tokens=(3, 4),
    crc32c=("0" * 8, None),
    outliers=1,
    failures=(Failure(1, "not an image", None),),
    files=(FileFact("tokens/c/3/0", 100, "f" * 64),),
)


def test_there_and_back(tmp_path: Path) -> None:
    assert parse_receipt(RECEIPT.to_json(), tmp_path) == RECEIPT
    assert receipt_name(3) == "receipts/000003.json"


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 2},
        {"shard": -1},
        {"shard": True},
        {"rows": 8},
        {"ids": [5]},
        {"ids": [5, None]},
        {"ids": "56"},
        {"tokens": [3, 0]},
        {"tokens": [3.0, 4]},
        {"tokens": [-1, 8]},
        {"crc32c": ["0" * 8, 7]},
        {"crc32c": ["0" * 8, "0"]},
        {"failures": [{"record": 2, "reason": "x", "sha256": None}]},
        {"failures": [{"record": 0, "reason": None, "sha256": None}]},
        {"failures": [7]},
        {"files": [{"path": "a", "bytes": 2**70, "sha256": "f" * 64}]},
        {"files": [{"path": "a", "bytes": 1, "sha256": None}]},
        {"files": None},
        {"outliers": "1"},
    ],
    ids=str,
)
def test_nonsense_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    document = json.loads(RECEIPT.to_json()) | change
    with pytest.raises(StoreDamaged):
        parse_receipt(json.dumps(document).encode(), tmp_path / "receipt.json")


def test_files_must_be_there_with_their_size(tmp_path: Path) -> None:
    file = tmp_path / "tokens/c/3/0"
    file.parent.mkdir(parents=True)
    assert not files_present(tmp_path, RECEIPT, ["tokens/c/3/0"])
    file.write_bytes(bytes(99))
    assert not files_present(tmp_path, RECEIPT, ["tokens/c/3/0"])
    file.write_bytes(bytes(100))
    assert files_present(tmp_path, RECEIPT, ["tokens/c/3/0"])
    assert not files_present(tmp_path, RECEIPT, ["tokens/c/3/0", "scale/c/3"])


def test_the_checksum_is_over_all_stored_bytes() -> None:
    x = np.random.default_rng(0).normal(size=(3, 200)).astype(np.float32)
    x[1, 5] = 1e4
    stored = encode("int8", x, "x")
    assert stored.scale is not None
    assert stored.exact_rows is not None
    assert stored.exact is not None
    parts = (stored.tokens, stored.scale, stored.exact_rows, stored.exact)
    assert crc32c(stored) == f"{google_crc32c.value(b''.join(part.tobytes() for part in parts)):08x}"
    assert crc32c(encode("float16", x, "x")) == f"{google_crc32c.value(x.astype('<f2').tobytes()):08x}"


def test_a_receipt_explains_its_shard_alone(tmp_path: Path) -> None:
    toy = Toy.make()
    write(tmp_path / "s", toy, format="hdf5")
    receipt = read_receipt(tmp_path / "s", 1)
    by_id = {name: toy.expected(i) for i, name in enumerate(toy.ids)}
    assert sum(receipt.tokens) == receipt.rows
    for name, tokens, crc in zip(receipt.ids, receipt.tokens, receipt.crc32c, strict=True):
        x = by_id[name]
        assert (crc is None) == (x is None)
        if x is not None:
            assert tokens == len(x)
            assert crc == crc32c(encode("float16", x, "x"))
