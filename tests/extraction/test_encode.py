"""One shard: order, padding, failures, memory that runs out, values that are not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from umecache.encoders.base import Encoder, Prepared
from umecache.errors import JobFailed, UnreadableInput
from umecache.extraction.config import Precision
from umecache.extraction.encode import ShardEncoder
from umecache.extraction.inputs import Inputs, content_digest


class Letters(Encoder):
    """Each letter's code point, D = 2; a record's second column is the padded length it was encoded at."""

    name, modality, dim = "letters", "text", 2
    recipe: dict[str, Any] = {}  # noqa: RUF012
    origin: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, fits: int = 1000) -> None:
        self.module = nn.Identity()
        self.fits = fits  # records that "memory" holds
        self.batches: list[int] = []

    def prepare(self, item: str | bytes) -> Prepared:
        if "?" in str(item):
            raise UnreadableInput("has a question mark")
        return np.array([ord(letter) for letter in str(item)], np.int64)

    def collate(self, prepared: Sequence[Prepared], pad_to: int | None = None) -> dict[str, Tensor]:
        width = pad_to or max(len(p) for p in prepared)
        ids = torch.zeros(len(prepared), width, dtype=torch.int64)
        for row, item in enumerate(prepared):
            ids[row, : len(item)] = torch.from_numpy(item)
        return {"ids": ids}

    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        ids_BT = batch["ids"]
        if len(ids_BT) > self.fits:
            raise torch.OutOfMemoryError("no room")
        self.batches.append(len(ids_BT))
        width = torch.full_like(ids_BT, ids_BT.shape[1])
        return torch.stack([ids_BT, width], dim=-1).float()


class Sink:
    def __init__(self, records: Sequence[int]) -> None:
        self.records = records
        self.written: dict[int, np.ndarray[Any, Any]] = {}
        self.failed: dict[int, tuple[str, str | None]] = {}

    def write(self, position: int, tokens: np.ndarray[Any, Any]) -> None:
        assert position not in self.written
        self.written[position] = np.array(tokens)

    def fail(self, position: int, reason: str, file_sha256: str | None) -> None:
        self.failed[position] = (reason, file_sha256)


TEXTS = ["bb", "a", "dddd", "ccc", "ee", "?"]


def _inputs(texts: Sequence[str] = TEXTS) -> Inputs:
    return Inputs(tuple(range(100, 100 + len(texts))), tuple(map(content_digest, texts)), texts.__getitem__)


def _machine(encoder: Encoder, inputs: Inputs, texts: Sequence[str] = TEXTS, **changes: Any) -> ShardEncoder:
    precision: Precision = changes.pop("precision", "float32")
    return ShardEncoder(
        encoder,
        inputs,
        [len(text) for text in texts],
        prepared=changes.pop("prepared", {}),
        device=torch.device("cpu"),
        batch_size=changes.pop("batch_size", 2),
        precision=precision,
        workers=2,
    )


def _run(machine: ShardEncoder, sink: Sink) -> list[int]:
    told: list[int] = []
    try:
        machine.encode(sink, told.append)
    finally:
        machine.close()
    return told


def test_each_record_is_written_once_without_padding() -> None:
    sink = Sink(range(len(TEXTS)))
    told = _run(_machine(Letters(), _inputs()), sink)
    assert sum(told) == len(TEXTS)
    assert {p: "".join(map(chr, rows[:, 0].astype(int))) for p, rows in sink.written.items()} == dict(
        enumerate(TEXTS[:5])
    )
    assert sink.failed == {5: ("has a question mark", content_digest("?"))}


def test_padding_is_the_planned_batch_not_what_is_left_of_it() -> None:
    # Sorted by length, then position: [a ?] [bb ee] [ccc dddd]
    sink = Sink(range(len(TEXTS)))
    _run(_machine(Letters(), _inputs()), sink)
    assert [sink.written[p][0, 1] for p in (1, 0, 4, 3, 2)] == [1, 2, 2, 4, 4]


def test_memory_that_runs_out_halves_the_batch_and_keeps_its_padding() -> None:
    roomy, tight = Letters(), Letters(fits=1)
    wide, narrow = Sink(range(5)), Sink(range(5))
    _run(_machine(roomy, _inputs(), batch_size=4), wide)
    _run(_machine(tight, _inputs(), batch_size=4), narrow)
    assert tight.batches == [1] * 5
    for position in range(5):
        np.testing.assert_array_equal(wide.written[position], narrow.written[position])


def test_one_record_that_never_fits() -> None:
    with pytest.raises(JobFailed, match="does not fit"):
        _run(_machine(Letters(fits=0), _inputs()), Sink(range(2)))


def test_an_input_that_changes_under_way_is_recorded() -> None:
    inputs = _inputs()
    changed = Inputs(inputs.ids, inputs.digests, lambda position: TEXTS[position] + "x")
    sink = Sink(range(2))
    _run(_machine(Letters(), changed), sink)
    assert {p: reason for p, (reason, _) in sink.failed.items()} == dict.fromkeys(
        range(2), "changed while the extraction was running"
    )


def test_what_planning_prepared_is_not_read_again() -> None:
    def forbidden(position: int) -> str:
        raise AssertionError("read twice")

    inputs = Inputs((100, 101), (content_digest("bb"), content_digest("a")), forbidden)
    sink = Sink(range(2))
    letters = Letters()
    _run(_machine(letters, inputs, prepared={0: letters.prepare("bb"), 1: letters.prepare("a")}), sink)
    assert sorted(sink.written) == [0, 1]


def test_values_that_are_not_finite_stop_the_job() -> None:
    class Broken(Letters):
        def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
            return super().encode(batch) / 0

    with pytest.raises(JobFailed, match="not finite for input 101"):
        _run(_machine(Broken(), _inputs(), batch_size=1), Sink([1]))


def test_an_error_of_the_store_stops_the_job() -> None:
    class Full(Sink):
        def write(self, position: int, tokens: np.ndarray[Any, Any]) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        _run(_machine(Letters(), _inputs()), Full(range(3)))
