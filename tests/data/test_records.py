"""Reading records one by one: the same as `json.load` on good files, one clear error on bad ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from umecache.data import records
from umecache.data.records import is_id, kind_of, many, read_records
from umecache.errors import DataError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=3), max_size=6)


def read(path: Path, key: str | None = "questions") -> list[dict[str, Any]]:
    return [record for _, record in read_records(path, key)]


@pytest.mark.parametrize("number", ["0.5", "1e-3", "1E+2", "12", "-0.25e2", "7"])
@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_a_number_cut_anywhere(number: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_CHUNK", chunk)
    path = tmp_path / "questions.json"
    path.write_text(f'{{"x": {number}, "questions": [{{"y": {number}}}]}}')
    assert read(path) == [{"y": json.loads(number)}]


@given(
    objects=OBJECTS,
    before=st.dictionaries(st.sampled_from(["a", "b"]), JSON),
    after=st.dictionaries(st.sampled_from(["c", "d"]), JSON),
    indent=st.sampled_from([None, 0, 3]),
    ascii_only=st.booleans(),
    chunk=st.integers(1, 40),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_reads_what_json_reads(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    objects: list[Any],
    before: dict[str, Any],
    after: dict[str, Any],
    indent: int | None,
    ascii_only: bool,
    chunk: int,
) -> None:
    # Chunks of a few bytes cut numbers, escapes and characters of several bytes in two.
    monkeypatch.setattr(records, "_CHUNK", chunk)
    path = tmp_path / "questions.json"
    document = {**before, "questions": objects, **after}
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    path.write_bytes(text.encode("utf-8", "surrogatepass" if ascii_only else "replace"))
    document = json.loads(path.read_bytes())
    header: dict[str, Any] = {}
    found = list(read_records(path, "questions", header=header))
    assert [number for number, _ in found] == list(range(1, len(objects) + 1))
    assert [record for _, record in found] == document.pop("questions")
    assert header == document
    path.write_text(json.dumps(objects))
    assert read(path, None) == json.loads(json.dumps(objects))


def test_gzip_and_byte_order_mark(tmp_path: Path) -> None:
    text = json.dumps({"questions": [{"a": "é"}]}, ensure_ascii=False)
    plain, packed = tmp_path / "q.json", tmp_path / "q.json.gz"
    plain.write_bytes(text.encode("utf-8-sig"))
    packed.write_bytes(gzip.compress(text.encode()))
    assert read(plain) == read(packed) == [{"a": "é"}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "an object with the list 'questions' is expected"),
        ("[]", "an object with the list 'questions' is expected"),
        ("{}", "has no list 'questions'"),
        ('{"annotations": [], "info": 1}', "has no list 'questions'. It has: annotations, info"),
        ('{"questions": {}}', "'questions' must be a list"),
        ('{"questions": [{}, 3]}', "record 2: an object is expected, not 3"),
        ('{"questions": [{}, "x"]}', 'record 2: an object is expected, not the string "x"'),
        ('{"questions": [{"a": 1}, {"a": }]}', "record 2, character 31: Expecting value"),
        ('{"questions": [{"a": 1}, {"a": 1', "record 2"),
        ('{"questions": [{"a": 1} {"a": 1}]}', "',' is expected, not '{'"),
        ('{"questions": [{"a": 1},]}', "Expecting value"),
        ('{"questions": [{"a": 1}]', "',' is expected where the file ends"),
        ('{"questions": [{"a": 1}],}', "a comma before '}'"),
        ('{"questions": [{"a": 1}]} x', "'x' after the end"),
        ('{"questions": [], "questions": []}', "comes twice"),
        ('{3: [], "questions": []}', "a name in quotes is expected"),
        ('{"questions": [{"a": NaN}]}', "NaN is not a JSON number"),
        ('{"questions": [{"a": -Infinity}]}', "-Infinity is not a JSON number"),
        ('{"questions": [{"a": "\x01"}]}', "Invalid control character"),
        ('{"questions": [{"a": ' + "1" * 5000 + "}]}", "record 1"),
        ('{"questions": [' + "[" * 100_000 + "]}", "recursion"),
    ],
)
def test_what_is_no_proper_json(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "questions.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in caught.value.what
    assert says in str(caught.value)


def test_what_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "nothing.json")
    with pytest.raises(DataError, match="is a folder"):
        read(tmp_path)
    path = tmp_path / "q.json"
    path.write_bytes('{"questions": []}'.encode("utf-16"))
    with pytest.raises(DataError, match="not UTF-8"):
        read(path)
    packed = tmp_path / "q.json.gz"
    whole = gzip.compress(json.dumps({"questions": [{"a": i} for i in range(1000)]}).encode())
    for damaged in (whole[: len(whole) // 2], b"no gzip at all", whole[:-6] + b"\0" * 6):
        packed.write_bytes(damaged)
        with pytest.raises(DataError, match="can't be decompressed"):
            read(packed)


def test_a_record_without_end_is_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_CHUNK", 100)
    monkeypatch.setattr(records, "_MAX_RECORD", 1000)
    path = tmp_path / "q.json"
    path.write_text('{"questions": [{"a": "' + "x" * 100_000)
    read_bytes = 0
    original = records._Scanner._more

    def counting(self: Any) -> bool:
        nonlocal read_bytes
        read_bytes += 100
        return original(self)

    monkeypatch.setattr(records._Scanner, "_more", counting)
    with pytest.raises(DataError, match="Unterminated string"):
        read(path)
    assert read_bytes < 2000


class Seen:
    """A reporter that adds up what it is told."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, float | None]] = []
        self.done = 0.0

    def task(self, label: str, total: float | None, unit: str = "items") -> Any:
        self.tasks.append((label, total))
        return self

    def advance(self, n: float = 1, **facts: object) -> None:
        self.done += n

    def say(self, line: str) -> None: ...

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None: ...


@pytest.mark.parametrize("name", ["q.json", "q.json.gz"])
def test_large_files_show_how_far_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / name
    text = json.dumps({"questions": [{"a": n} for n in range(5000)]}).encode()
    path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    small, large = Seen(), Seen()
    assert len(list(read_records(path, "questions", reporter=small))) == 5000
    monkeypatch.setattr(records, "_LARGE", 1000)
    assert len(list(read_records(path, "questions", reporter=large))) == 5000
    assert small.tasks == []
    assert large.tasks == [(f"reading {name}", path.stat().st_size / 1e6)]
    assert large.done == pytest.approx(path.stat().st_size / 1e6)


def test_ids() -> None:
    assert all(map(is_id, (0, 1, 2**63 - 1)))
    assert not any(map(is_id, (-1, 2**63, True, False, 1.0, "1", None, [1])))


def test_kinds_in_words() -> None:
    assert [kind_of(value) for value in (None, True, 1.5, "a", [], {})] == [
        "null",
        "true",
        "1.5",
        'the string "a"',
        "a list",
        "an object",
    ]
    assert len(kind_of("x" * 1000)) < 60
    assert [many(n, "question") for n in (0, 1, 1234)] == ["0 questions", "1 question", "1,234 questions"]
