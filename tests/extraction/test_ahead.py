"""Batches made ahead: content, failures, memory."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from tests.extraction.test_encode import TEXTS, Letters, _inputs
from umecache.encoders.base import Prepared
from umecache.extraction import ahead as ahead_module
from umecache.extraction.ahead import AHEAD, Failed, ReadAhead
from umecache.extraction.inputs import content_digest
from umecache.extraction.transfer import Transfer


def _ahead(prepared: dict[int, Prepared] | None = None) -> ReadAhead:
    lengths = [len(text) for text in TEXTS]
    transfer = Transfer(torch.device("cpu"))
    return ReadAhead(Letters(), _inputs(), lengths, prepared=prepared or {}, transfer=transfer, workers=2)


def test_a_batch_holds_the_good_ones_at_the_planned_padding() -> None:
    ahead = _ahead()
    batch = ahead.start([5, 2, 0]).result(10)
    ahead.close()
    assert batch.positions == [2, 0]
    assert batch.pad_to == 4
    assert batch.tensors["ids"].shape == (2, 4)
    assert batch.failed == {5: Failed("has a question mark", content_digest("?"))}


def test_a_batch_of_failures_only() -> None:
    ahead = _ahead()
    batch = ahead.start([5]).result(10)
    ahead.close()
    assert (list(batch.positions), dict(batch.tensors), len(batch.failed)) == ([], {}, 1)


def test_what_is_prepared_already_is_taken_as_it_is() -> None:
    ahead = _ahead({1: np.array([7])})
    batch = ahead.start([1]).result(10)
    ahead.close()
    assert batch.tensors["ids"].tolist() == [[7]]


def test_room_follows_the_memory_that_a_batch_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = _ahead()
    assert ahead.room == 1
    ahead.start([0]).result(10)
    assert ahead.room == AHEAD
    monkeypatch.setattr(ahead_module, "AHEAD_BYTES", 100)  # two bytes of text: 2 ids and a row of 2, 8 bytes each
    ahead.start([0]).result(10)
    assert ahead.room == 3
    monkeypatch.setattr(ahead_module, "AHEAD_BYTES", 1)
    ahead.start([0]).result(10)
    assert ahead.room == 1
    ahead.close()


def test_a_bug_is_not_taken_for_a_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = _ahead()

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(ahead._encoder, "prepare", broken)
    with pytest.raises(ZeroDivisionError):
        ahead.start([0]).result(10)
    ahead.close()


def test_closing_with_work_under_way_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    ahead = _ahead()
    for _ in range(20):
        ahead.start([0, 1, 2])
    ahead.close()
    assert set(threading.enumerate()) <= before
