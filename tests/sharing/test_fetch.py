"""One object: resumed, bounded, checked, then named."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from umecache.reporting import Silent
from umecache.sharing.fetch import PARTS, TRIES, Progress, Wanted, fetch, fetch_all, in_parallel
from umecache.sharing.remotes import FolderRemote, RemoteFailed
from umecache.stores import StoreDamaged

DATA = bytes(range(256)) * 40
SUM = hashlib.sha256(DATA).hexdigest()


class Line(FolderRemote):
    """Sends DATA in blocks of 100; breaks after `cuts`, one each time it is asked."""

    def __init__(self, *cuts: int, data: bytes = DATA) -> None:
        super().__init__(Path("/nowhere"))
        self.cuts, self.data, self.asked = list(cuts), data, list[int]()

    def stream(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        self.asked.append(start)
        cut = self.cuts.pop(0) if self.cuts else None
        for at in range(start, len(self.data), 100):
            if cut is not None and at - start >= cut:
                raise RemoteFailed("The line is cut.")
            yield self.data[at : at + 100]


def progress(small: int = 1 << 20) -> Progress:
    return Progress(Silent().task("", None), small)


def part_of(folder: Path, name: str = "f") -> Path:
    return folder / PARTS / hashlib.sha256(name.encode()).hexdigest()[:32]


def test_goes_on_where_it_stopped(tmp_path: Path) -> None:
    line = Line(300, 0, 500)
    moved = progress()
    fetch(line, Wanted("a/f", SUM, len(DATA)), tmp_path, moved)
    assert (tmp_path / "a/f").read_bytes() == DATA
    assert line.asked == [0, 300, 300, 800]
    assert moved.bytes == len(DATA)


def test_gives_up_where_nothing_comes(tmp_path: Path) -> None:
    line = Line(300, *[0] * 20)
    with pytest.raises(RemoteFailed, match="cut"):
        fetch(line, Wanted("f", SUM, len(DATA)), tmp_path, progress())
    assert len(line.asked) == TRIES + 1
    assert part_of(tmp_path).read_bytes() == DATA[:300]
    fetch(line := Line(), Wanted("f", SUM, len(DATA)), tmp_path, progress())
    assert line.asked == [300]


def test_a_rest_of_another_version_is_started_anew(tmp_path: Path) -> None:
    part_of(tmp_path).parent.mkdir(parents=True)
    part_of(tmp_path).write_bytes(b"y" * 300)
    line = Line()
    fetch(line, Wanted("f", SUM), tmp_path, progress())
    assert line.asked == [300, 0]
    part_of(tmp_path).write_bytes(b"y" * (len(DATA) + 1))
    fetch(Line(), Wanted("f", SUM, len(DATA)), tmp_path, progress())


@pytest.mark.parametrize("size", [len(DATA), None])
def test_other_bytes_are_thrown_away(tmp_path: Path, size: int | None) -> None:
    with pytest.raises(StoreDamaged, match="is not what CHECKSUMS lists"):
        fetch(Line(data=DATA[::-1]), Wanted("f", SUM, size), tmp_path, progress())
    assert not part_of(tmp_path).exists()
    assert not (tmp_path / "f").exists()


def test_more_than_declared(tmp_path: Path) -> None:
    with pytest.raises(StoreDamaged, match="sends more than its 500 bytes"):
        fetch(Line(), Wanted("f", SUM, 500), tmp_path, progress())
    assert part_of(tmp_path).stat().st_size <= 500
    with pytest.raises(StoreDamaged, match="small files"):
        fetch(Line(), Wanted("g", SUM), tmp_path, progress(small=1000))
    assert part_of(tmp_path, "g").stat().st_size <= 1100


def test_what_has_a_name_arrived_whole(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    line = Line()
    fetch_all(line, [Wanted("f", SUM, len(DATA))], tmp_path, progress())
    assert line.asked == []


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / "in" / PARTS).mkdir(parents=True)
    part_of(tmp_path / "in").symlink_to(outside)
    with pytest.raises(StoreDamaged, match="outside itself"):
        fetch(Line(), Wanted("f", SUM), tmp_path / "in", progress())
    assert outside.read_text() == "mine"


def test_the_first_failure_stops_the_others() -> None:
    moved, started = progress(), threading.Event()

    def endless() -> None:
        started.set()
        assert moved.stop.wait(20)

    def fails() -> None:
        started.wait(20)
        raise ValueError("this one")

    with pytest.raises(ValueError, match="this one"):
        in_parallel([endless, fails], moved)
    assert in_parallel([partial(int, "3"), partial(int, "4")], moved) == [3, 4]
    assert in_parallel([], moved) == []
