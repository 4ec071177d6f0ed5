"""Plans: what is stored where, decided beforehand and the same for every process."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umecache.stores import StoreError
from umecache.stores.plan import Plan, make_plan


def digest(content: object) -> str:
    return hashlib.sha256(str(content).encode()).hexdigest()


def plan_of(content: list[int], lengths: dict[int, int], **options: Any) -> Plan:
    options = {"dim": 4, "row_bytes": 8} | options
    return make_plan(
        list(range(100, 100 + len(content))), [digest(c) for c in content], [lengths[c] for c in content], **options
    )


def test_equal_digests_share_a_start_in_order_of_first_mention() -> None:
    plan = plan_of([5, 7, 5, 6, 7], {5: 3, 6: 1, 7: 2})
    assert plan.start.tolist() == [0, 3, 0, 5, 3]
    assert plan.first.tolist() == [0, 1, 3]
    assert plan.record.tolist() == [0, 1, 0, 2, 1]
    assert (plan.tokens, plan.shards, plan.capacity) == (6, 1, 6)


def test_fixed_length_capacity_is_a_multiple_of_it() -> None:
    plan = plan_of(list(range(10)), dict.fromkeys(range(10), 7), shard_bytes=3 * 7 * 8 + 5)
    assert plan.shard_rows == 21
    assert plan.chunk_rows == 7
    assert plan.used.tolist() == [21, 21, 21, 7]
    assert plan.shard(3).tolist() == [9]


def test_no_record_is_too_long_for_its_shard() -> None:
    plan = plan_of([0, 1, 2], {0: 2, 1: 50, 2: 2}, shard_bytes=5 * 8)
    assert np.diff(plan.bounds).tolist() == [1, 1, 1]
    assert plan.shard_rows == 50


def test_a_small_store_is_no_larger_than_its_records() -> None:
    assert plan_of([0, 1], {0: 5, 1: 5}).capacity == 10


@given(
    content=st.lists(st.integers(0, 9), max_size=40),
    lengths=st.lists(st.integers(0, 6), min_size=10, max_size=10),
    records=st.none() | st.integers(1, 5),
    size=st.integers(1, 200),
)
def test_records_never_cross_shards_nor_overlap(
    content: list[int], lengths: list[int], records: int | None, size: int
) -> None:
    plan = plan_of(content, dict(enumerate(lengths)), shard_records=records, shard_bytes=size)
    owner = np.full(plan.capacity, -1)
    for i, c in enumerate(content):
        start, length = int(plan.start[i]), int(plan.length[i])
        assert length == lengths[c]
        if length:
            assert start // plan.shard_rows == (start + length - 1) // plan.shard_rows
            assert start % plan.chunk_rows == 0
            assert length % plan.chunk_rows == 0
            assert set(owner[start : start + length].tolist()) <= {-1, c}
            owner[start : start + length] = c
    assert (owner >= 0).sum() == plan.tokens == sum(lengths[c] for c in set(content))
    assert plan.shard_rows % plan.chunk_rows == 0
    listed = [int(i) for k in range(plan.shards) for i in plan.shard(k)]
    assert listed == plan.first.tolist()
    if records and plan.shards:
        assert set(np.diff(plan.bounds)[:-1].tolist()) <= {records}
    again = plan_of(content, dict(enumerate(lengths)), shard_records=np.diff(plan.bounds).tolist() or None)
    assert again.facts() == plan.facts()


def test_known_failures_take_no_place() -> None:
    plan = make_plan([1, 2], ["missing:1", digest(2)], [0, 3], dim=2, row_bytes=4, failures={0: "gone"})
    assert plan.length.tolist() == [0, 3]
    assert plan.record.tolist() == [-1, 0]
    assert plan.failures == {0: "gone"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": [1, 1]}, "twice"),
        ({"ids": ["a", "a"]}, "twice"),
        ({"ids": [1.5, 2.5]}, "integers"),
        ({"ids": ["a", ""]}, "empty"),
        ({"ids": ["a", "b\0"]}, "NUL"),
        ({"ids": ["a", "\ud800"]}, "surrogate"),
        ({"ids": ["a", "x" * 2000]}, "2000 bytes"),
        ({"ids": ["a", 2]}, "not both"),
        ({"ids": [1]}, "don't fit together"),
        ({"lengths": [3, -1]}, "at least 0"),
        ({"dim": 0}, "width"),
        ({"lengths": [3, 4], "digests": [digest(0)] * 2}, "same input"),
        ({"failures": {1: "gone"}}, "length 0"),
        ({"failures": {7: "gone"}}, "exist"),
        ({"shard_records": 0}, "at least 1"),
        ({"shard_records": [1, 2]}, "don't hold"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], message: str) -> None:
    arguments = {"ids": [1, 2], "digests": [digest(0), digest(1)], "lengths": [3, 3], "dim": 2, "row_bytes": 4} | change
    with pytest.raises(StoreError, match=message):
        make_plan(**arguments)
