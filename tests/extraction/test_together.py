"""Several stores of one plan, filled together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from umecache.extraction.together import Bundle, offers
from umecache.stores import Writer, open_store, open_writer

DIGESTS = [f"{n:064x}" for n in range(6)]


def _writer(path: Path) -> Writer:
    facts = {"recipe": {}}
    return open_writer(
        path, manifest=facts, ids=range(6), digests=DIGESTS, lengths=[2] * 6, dim=4, dtype="float32", shard_records=2
    )


def _values(position: int, layer: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.full((2, 4), 10 * layer + position, np.float32)


def _fill_alone(writer: Writer, layer: int, shards: int = 100) -> None:
    for _, shard in zip(range(shards), writer.claim(), strict=False):
        with shard:
            for position in shard.records:
                shard.write(position, _values(position, layer))


def _fill(writers: list[Writer]) -> int:
    count = 0
    for shard in offers(writers):
        assert shard is not None
        with shard:
            for position in shard.records:
                shard.write(position, *(_values(position, layer) for layer in range(len(writers))))  # type: ignore[call-arg]
        count += 1
    return count


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("before", [0, 1, 3])
def test_each_store_is_what_it_is_alone(tmp_path: Path, before: int) -> None:
    alone = [_writer(tmp_path / f"alone{layer}") for layer in range(2)]
    for layer, writer in enumerate(alone):
        _fill_alone(writer, layer)
        writer.seal()
    both = [_writer(tmp_path / f"both{layer}") for layer in range(2)]
    _fill_alone(both[1], 1, before)  # one of them has shards already
    assert _fill(both) == 3
    for layer, writer in enumerate(both):
        writer.seal()
        assert _bytes(tmp_path / f"both{layer}") == _bytes(tmp_path / f"alone{layer}")


def test_a_shard_that_another_holds_in_one_store_waits(tmp_path: Path) -> None:
    writers = [_writer(tmp_path / "a"), _writer(tmp_path / "b")]
    other = writers[1].take(0)
    assert other is not None
    found = offers(writers)
    first = next(found)
    assert first is not None
    assert list(first.records) == [2, 3], "shard 0 is skipped, and its claim in the first store given back"
    assert writers[0].take(0) is not None


def test_where_all_is_held_nothing_is_offered(tmp_path: Path) -> None:
    writers = [_writer(tmp_path / "a"), _writer(tmp_path / "b")]
    held = [writers[0].take(k) for k in range(3)]
    assert all(held)
    assert next(offers(writers)) is None


def test_a_failed_commit_drops_the_rest(tmp_path: Path) -> None:
    writers = [_writer(tmp_path / "a"), _writer(tmp_path / "b")]
    bundle = next(offers(writers))
    assert isinstance(bundle, Bundle)

    class Stop(Exception):
        pass

    with pytest.raises(Stop), bundle:
        raise Stop
    assert [writer.done for writer in writers] == [0, 0]
    assert writers[0].take(0) is not None, "claims are given back"
    again = next(offers(writers))
    assert isinstance(again, Bundle)
    again.discard()


def test_failures_are_those_of_every_store(tmp_path: Path) -> None:
    writers = [_writer(tmp_path / "a"), _writer(tmp_path / "b")]
    for shard in offers(writers):
        assert shard is not None
        with shard:
            for position in shard.records:
                shard.fail(position, "broken", None)
    for writer in writers:
        writer.seal()
        assert set(open_store(writer.path).failures.values()) == {"broken"}
