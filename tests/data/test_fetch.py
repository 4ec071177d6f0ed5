"""Fetching from a server that drops connections, ignores ranges, changes the file or lies."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from umecache.data.fetch import FetchOptions, check_url, fetch, size_of
from umecache.errors import JobFailed, UsageError

DATA = random.Random(0).randbytes(300_000)


class Pauses(list[float]):
    """Counts pauses instead of making them."""

    def options(self, **changes: Any) -> FetchOptions:
        return FetchOptions(sleep=self.append, timeout=5.0, **changes)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "a.zip"


def fetched(site: Any, target: Path, pauses: Pauses, **changes: Any) -> bytes:
    site.files.setdefault("a.zip", DATA)
    assert fetch(f"{site.address}/a.zip", target, pauses.options(**changes)) == target
    assert [path.name for path in target.parent.iterdir()] == ["a.zip"]  # no part, no facts are left
    return target.read_bytes()


def test_in_one_go(site: Any, target: Path, pauses: Pauses) -> None:
    assert fetched(site, target, pauses) == DATA
    assert site.gets("a.zip") == [None]
    assert pauses == []


def test_dropped_connections_are_resumed(site: Any, target: Path, pauses: Pauses) -> None:
    site.drops = [100_000, 50_000, 0, 1]
    assert fetched(site, target, pauses) == DATA
    assert site.gets("a.zip") == [None, "bytes=100000-", "bytes=150000-", "bytes=150000-", "bytes=150001-"]
    assert site.conditions == [None, *['"one"'] * 4]
    assert len(pauses) == 4


def test_pauses_double_until_bytes_arrive_again(site: Any, target: Path, pauses: Pauses) -> None:
    site.drops = [0, 0, 0, 0, 10, 0]
    assert fetched(site, target, pauses, pause=1.0, longest_pause=5.0) == DATA
    for pause, wanted in zip(pauses, (1, 2, 4, 5, 1, 2), strict=True):
        assert 0.75 * wanted <= pause <= 1.25 * wanted


def test_gives_up_and_keeps_what_arrived(site: Any, target: Path, pauses: Pauses) -> None:
    site.files["a.zip"] = DATA
    site.drops = [1000] + [0] * 9
    with pytest.raises(JobFailed, match=r"dropped after 1,000 of 300,000 bytes.*1,000 bytes are safe"):
        fetch(f"{site.address}/a.zip", target, pauses.options(retries=2))
    assert not target.exists()
    assert target.with_name("a.zip.part").read_bytes() == DATA[:1000]
    site.drops, site.requests = [], []
    assert fetched(site, target, pauses) == DATA
    assert site.gets("a.zip") == ["bytes=1000-"]


def test_a_server_without_ranges_sends_all_again(site: Any, target: Path, pauses: Pauses) -> None:
    site.ranges, site.drops = False, [1000, 2000]
    assert fetched(site, target, pauses) == DATA


@pytest.mark.parametrize("etag", ['"two"', None, 'W/"two"'])
def test_a_file_that_changed_is_not_spliced(site: Any, target: Path, pauses: Pauses, etag: str | None) -> None:
    site.files["a.zip"] = DATA
    site.drops = [1000] * 3
    with pytest.raises(JobFailed):
        fetch(f"{site.address}/a.zip", target, pauses.options(retries=0))
    other = DATA[::-1] + b"more"
    site.files["a.zip"], site.etag, site.drops = other, etag, []
    assert fetched(site, target, pauses) == other


@pytest.mark.parametrize("validator", ["etag", "modified"])
def test_a_server_that_sends_the_rest_of_another_version(
    site: Any, target: Path, pauses: Pauses, validator: str
) -> None:
    site.conditional, site.etag = False, None
    setattr(site, validator, '"one"' if validator == "etag" else "Wed, 21 Oct 2015 07:28:00 GMT")
    site.files["a.zip"], site.drops = DATA, [1000]
    with pytest.raises(JobFailed):
        fetch(f"{site.address}/a.zip", target, pauses.options(retries=0))
    site.files["a.zip"] = DATA[::-1]  # of the same size
    setattr(site, validator, '"two"' if validator == "etag" else "Thu, 22 Oct 2015 07:28:00 GMT")
    assert fetched(site, target, pauses) == DATA[::-1]


def test_a_weak_etag_is_no_condition(site: Any, target: Path, pauses: Pauses) -> None:
    site.etag, site.modified, site.drops = 'W/"one"', "Wed, 21 Oct 2015 07:28:00 GMT", [1000]
    assert fetched(site, target, pauses) == DATA
    assert site.gets("a.zip") == [None, "bytes=1000-"]
    assert site.conditions == [None, site.modified]


def test_a_shorter_file_is_there_now(site: Any, target: Path, pauses: Pauses) -> None:
    site.drops, site.etag, site.files["a.zip"] = [2000], None, DATA
    with pytest.raises(JobFailed):
        fetch(f"{site.address}/a.zip", target, pauses.options(retries=0))
    site.files["a.zip"] = DATA[:1500]  # the answer is 416
    assert fetched(site, target, pauses) == DATA[:1500]


def test_another_range_than_asked_for(site: Any, target: Path, pauses: Pauses) -> None:
    site.drops, site.shift = [1000], 5
    assert fetched(site, target, pauses) == DATA


def test_a_part_without_facts_or_from_elsewhere_is_not_trusted(site: Any, target: Path, pauses: Pauses) -> None:
    part = target.with_name("a.zip.part")
    part.write_bytes(b"x" * 1000)
    assert fetched(site, target, pauses) == DATA
    for facts in ({"url": "http://other/a.zip", "size": len(DATA), "etag": '"one"', "modified": None}, ["nonsense"]):
        target.unlink()
        part.write_bytes(b"x" * 1000)
        target.with_name("a.zip.part.json").write_text(json.dumps(facts))
        assert fetched(site, target, pauses) == DATA
    assert site.gets("a.zip") == [None] * 3


def test_stopped_between_the_last_byte_and_the_rename(site: Any, target: Path, pauses: Pauses) -> None:
    target.with_name("a.zip.part").write_bytes(DATA)
    facts = {"url": f"{site.address}/a.zip", "size": len(DATA), "etag": '"one"', "modified": None}
    target.with_name("a.zip.part.json").write_text(json.dumps(facts))
    assert fetched(site, target, pauses) == DATA
    assert site.requests == []


def test_a_server_that_says_no_length(site: Any, target: Path, pauses: Pauses) -> None:
    site.length = False
    assert fetched(site, target, pauses) == DATA


def test_an_empty_file(site: Any, target: Path, pauses: Pauses) -> None:
    site.files["a.zip"] = b""
    assert fetched(site, target, pauses) == b""


def test_a_busy_server_is_asked_again_when_it_says(site: Any, target: Path, pauses: Pauses) -> None:
    site.statuses = [503, 429]
    assert fetched(site, target, pauses) == DATA
    assert pauses == [7.0, 7.0]  # Retry-After


def test_no_such_file(site: Any, target: Path, pauses: Pauses) -> None:
    with pytest.raises(JobFailed, match=r"the server says 404.*--base-url"):
        fetch(f"{site.address}/b.zip", target, pauses.options())
    assert pauses == []
    assert size_of(f"{site.address}/b.zip", pauses.options()) is None


def test_nobody_there(target: Path, pauses: Pauses, site: Any) -> None:
    address = site.address.rsplit(":", 1)[0] + ":9"  # the discard port: nothing listens
    with pytest.raises(JobFailed, match="Connection refused"):
        fetch(f"{address}/a.zip", target, pauses.options(retries=1))
    assert len(pauses) == 1
    assert size_of(f"{address}/a.zip", pauses.options()) is None


def test_where_nothing_can_be_written(site: Any, tmp_path: Path, pauses: Pauses) -> None:
    site.files["a.zip"] = DATA
    (tmp_path / "a.zip.part").mkdir()
    with pytest.raises(JobFailed, match="can't be written"):
        fetch(f"{site.address}/a.zip", tmp_path / "a.zip", pauses.options())


def test_size_by_head(site: Any, pauses: Pauses) -> None:
    site.files["a.zip"] = DATA
    assert size_of(f"{site.address}/a.zip", pauses.options()) == len(DATA)
    site.head = False
    assert size_of(f"{site.address}/a.zip", pauses.options()) is None


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a.zip", "host/a.zip", "http:///a.zip", ""])
def test_only_http(url: str, target: Path, pauses: Pauses) -> None:
    with pytest.raises(UsageError, match="no http or https address"):
        check_url(url)
    with pytest.raises(UsageError):
        fetch(url, target, pauses.options())
