"""One shard: order, padding, failures, memory that runs out, values that are not finite."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from umecache.encoders.base import Encoder, Prepared
from umecache.errors import JobFailed, UnreadableInput
from umecache.extraction import encode
from umecache.extraction.ahead import AHEAD
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
        self.state = "offered"

    def write(self, position: int, tokens: np.ndarray[Any, Any]) -> None:
        assert position not in self.written
        self.written[position] = np.array(tokens)

    def fail(self, position: int, reason: str, file_sha256: str | None) -> None:
        self.failed[position] = (reason, file_sha256)

    def __enter__(self) -> Sink:
        assert self.state == "offered"
        self.state = "open"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        assert self.state == "open"
        if kind is None:
            assert sorted([*self.written, *self.failed]) == sorted(self.records)
        self.state = "committed" if kind is None else "dropped"


TEXTS = ["bb", "a", "dddd", "ccc", "ee", "?"]


def _inputs(texts: Sequence[str] = TEXTS) -> Inputs:
    return Inputs(tuple(range(100, 100 + len(texts))), tuple(map(content_digest, texts)), texts.__getitem__)


def _machine(encoder: Encoder, inputs: Inputs, texts: Sequence[str] = TEXTS, **changes: Any) -> ShardEncoder:
    precision: Precision = changes.pop("precision", "float32")
    return ShardEncoder(
        [encoder],
        inputs,
        [len(text) for text in texts],
        prepared=changes.pop("prepared", {}),
        device=torch.device("cpu"),
        batch_size=changes.pop("batch_size", 2),
        precision=precision,
        dtype=changes.pop("dtype", "float32"),
        workers=2,
    )


def _run(machine: ShardEncoder, *sinks: Sink | None) -> list[int]:
    told: list[int] = []
    before = set(threading.enumerate())
    try:
        machine.encode(iter(sinks), told.append)
    finally:
        machine.close()
        assert set(threading.enumerate()) <= before, "a thread was left behind"
    assert all(sink is None or sink.state == "committed" for sink in sinks)
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


def test_shards_follow_each_other_and_each_is_committed_once() -> None:
    sinks = [Sink([0, 1, 2]), Sink([3]), Sink([4, 5])]
    told = _run(_machine(Letters(), _inputs()), *sinks)
    assert told == [2, 1, 1, 2]
    assert [sorted([*sink.written, *sink.failed]) for sink in sinks] == [[0, 1, 2], [3], [4, 5]]


def test_the_next_shard_is_read_while_the_last_is_committed() -> None:
    encoded_two = threading.Event()

    class Slow(Sink):
        def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
            assert encoded_two.wait(10), "the encoder waited for a commit"
            super().__exit__(kind, error, trace)

    class Telling(Letters):
        def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
            if len(self.batches) == 1:
                encoded_two.set()
            return super().encode(batch)

    _run(_machine(Telling(), _inputs()), Slow([0]), Sink([1]))


def test_while_no_shard_is_free_what_is_held_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "POLL", 0.01)
    first, second = Sink([0]), Sink([1])

    def offers() -> Iterator[Sink | None]:
        yield first
        while first.state != "committed":  # as a store offers nothing while the last shards are under way
            yield None
        yield second

    machine = _machine(Letters(), _inputs())
    machine.encode(offers(), lambda _: None)
    machine.close()
    assert second.state == "committed"


@pytest.mark.parametrize("where", ["encode", "write", "enter", "offer", "commit"])
def test_an_error_anywhere_drops_what_is_open_and_leaves_no_thread(where: str) -> None:
    class Stop(Exception):
        pass

    def stop(*_: Any) -> Any:
        raise Stop

    letters, bad, after = Letters(), Sink([0, 1, 2, 3]), Sink([4])
    if where == "encode":
        letters.encode = stop  # type: ignore[method-assign]
    elif where == "write":
        bad.write = stop  # type: ignore[method-assign]

    class Hard(Sink):
        def __enter__(self) -> Sink:
            super().__enter__()
            return self if where != "enter" else stop()

        def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
            if where == "commit" and kind is None:
                stop()
            super().__exit__(kind, error, trace)

    sinks = [Hard([0, 1, 2, 3]) if where in ("enter", "commit") else bad, after]

    def offers() -> Iterator[Sink]:
        yield sinks[0]
        if where == "offer":
            stop()
        yield sinks[1]

    before = set(threading.enumerate())
    machine = _machine(letters, _inputs())
    with pytest.raises(Stop):
        machine.encode(offers(), lambda _: None)
    assert set(threading.enumerate()) <= before
    assert sinks[0].state == "dropped"
    assert after.state in ("offered", "dropped")


def test_a_stop_while_the_encoder_waits_is_not_lost() -> None:
    """Ctrl-C and SIGTERM are raised in the main thread, wherever that stands."""
    inputs = _inputs()

    def told(_: int) -> None:
        raise KeyboardInterrupt

    sink = Sink(range(5))
    machine = _machine(Letters(), inputs)
    with pytest.raises(KeyboardInterrupt):
        machine.encode([sink], told)
    assert sink.state == "dropped"


def test_reading_ahead_is_bounded() -> None:
    read: list[int] = []
    inputs = _inputs("abcdefghijklmnopqrstuvwxyz")
    letters, lead = Letters(), []

    def counted(position: int) -> str:
        read.append(position)
        return inputs.read(position)  # type: ignore[return-value]

    def slow(batch: Mapping[str, Tensor]) -> Tensor:
        time.sleep(0.02)
        lead.append(len(read) - sum(letters.batches))
        return Letters.encode(letters, batch)

    letters.encode = slow  # type: ignore[method-assign]
    texts = "abcdefghijklmnopqrstuvwxyz"
    machine = _machine(letters, Inputs(inputs.ids, inputs.digests, counted), texts, batch_size=1)
    _run(machine, Sink(range(len(texts))))
    assert 2 <= max(lead) <= AHEAD + 2


@pytest.mark.parametrize(("dtype", "kept"), [("float16", np.float16), ("bfloat16", np.float32), ("int8", np.float32)])
def test_float16_is_cast_on_the_device_and_the_rest_by_the_store(dtype: str, kept: type) -> None:
    sink = Sink(range(2))
    _run(_machine(Letters(), _inputs(), dtype=dtype), sink)
    assert sink.written[0].dtype == kept
    assert "".join(map(chr, sink.written[0][:, 0].astype(int))) == "bb"


def test_what_float16_cannot_hold_is_refused_with_advice() -> None:
    class Large(Letters):
        def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
            return super().encode(batch) * 1000

    with pytest.raises(JobFailed, match=r"input 101 reach 97000, which float16") as caught:
        _run(_machine(Large(), _inputs(), dtype="float16"), Sink([1]))
    assert "--dtype bfloat16" in caught.value.next
    _run(_machine(Large(), _inputs(), dtype="bfloat16"), Sink([1]))


def test_the_shares_of_time_are_those_of_the_main_thread() -> None:
    machine = _machine(Letters(), _inputs())
    _run(machine, Sink(range(6)))
    assert sum(machine.shares.fractions().values()) == pytest.approx(1)
    assert machine.shares.seconds["encode"] > 0
