"""JSON files of many records, read one record at a time: bounded memory, and errors that name the record.

    for number, record in read_records(Path("questions_train.json"), "questions"): ...

The annotations of VQA v2 train are 380 MB of JSON and 2 GB as Python dicts. Read this way, one record lives at a
time beside a few MB of text; it takes as long as `json.load`. Plain and gzipped files, with or without a byte order
mark.
"""

from __future__ import annotations

import codecs
import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn, cast

from umecache.errors import DataError
from umecache.reporting import Reporter, Silent, Task

MAX_ID = 2**63 - 1  # ids become int64 in feature stores
_CHUNK = 1 << 22  # bytes per read
_MAX_RECORD = 1 << 24  # characters; one that is longer is taken for damage
_LARGE = 1 << 24  # bytes; reading a smaller file is over before a bar would help
_SPACE = re.compile(r"[ \t\n\r]*")


def read_records(
    path: Path, key: str | None, *, header: dict[str, Any] | None = None, reporter: Reporter | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of the array `key` of the top-level object (None: of the top-level array), numbered from 1.

    Args:
        path: a `.json` or `.json.gz` file, UTF-8.
        key: where the array is.
        header: receives the other top-level entries.
        reporter: shows how far large files are.

    Raises:
        DataError: the file can't be read, is no JSON, has no such array or another kind of value in it.
    """
    try:
        with path.open("rb") as raw, _progress(path, raw, reporter) as task:
            scanner = _Scanner(_Source(path, raw, task), path)
            if key is None:
                yield from _array(scanner, "the file must hold one list")
            else:
                yield from _object(scanner, key, {} if header is None else header)
            if (rest := scanner.peek()) != "":
                scanner.fail(f"{rest!r} after the end")
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file.", next=f"ls {path.parent}") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder.", why="A JSON file is expected here.") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} can't be decompressed: {error}.", why="It is cut short or no gzip file.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}).", next="save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error


def is_id(value: object) -> bool:
    """Whether a JSON value is a whole number that fits an id: 0 to 2^63 - 1, no bool."""
    return type(value) is int and 0 <= value <= MAX_ID


def kind_of(value: object) -> str:
    """What a JSON value is, in words, for error lines."""
    if isinstance(value, str):
        return f"the string {_short(json.dumps(value, ensure_ascii=False))}"
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "an object"
    return _short(json.dumps(value))


def many(count: int, noun: str) -> str:
    """A count with its noun: "1 question", "1,234 questions"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _progress(path: Path, raw: IO[bytes], reporter: Reporter | None) -> Task:
    size = os.fstat(raw.fileno()).st_size
    shown = reporter if reporter is not None and size >= _LARGE else Silent()
    return shown.task(f"reading {path.name}", size / 1e6, "MB")


class _Source:
    """Bytes of a file, unpacked where its name says that it is gzipped."""

    def __init__(self, path: Path, raw: IO[bytes], task: Task) -> None:
        self._raw, self._task, self._told = raw, task, 0
        self._file = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw

    def read(self) -> bytes:
        block = self._file.read(_CHUNK)
        at = self._raw.tell()  # of the file on disk: its size is known
        self._task.advance((at - self._told) / 1e6)
        self._told = at
        return block


def _object(scanner: _Scanner, wanted: str, header: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    if scanner.peek() != "{":
        scanner.fail(f"an object with the list {wanted!r} is expected")
    scanner.skip("{")
    found = False
    while scanner.peek() != "}":
        name = scanner.value()
        if not isinstance(name, str):
            scanner.fail("a name in quotes is expected")
        scanner.skip(":")
        if name != wanted:
            header[name] = scanner.value()
        elif found:
            scanner.fail(f"the list {wanted!r} comes twice")
        else:
            found = True
            yield from _array(scanner, f"{wanted!r} must be a list")
        if scanner.peek() != "}":
            scanner.skip(",")
            if scanner.peek() == "}":
                scanner.fail("a comma before '}'")
    scanner.skip("}")
    if not found:
        raise DataError(f"{scanner.path} has no list {wanted!r}.", why=f"It has: {', '.join(header) or 'nothing'}.")


def _array(scanner: _Scanner, expected: str) -> Iterator[tuple[int, dict[str, Any]]]:
    if scanner.peek() != "[":
        scanner.fail(expected)
    scanner.skip("[")
    number = 0
    if scanner.peek() != "]":
        while True:
            number += 1
            scanner.record = number
            value = scanner.value()
            if not isinstance(value, dict):
                raise DataError(f"{scanner.path}, record {number}: an object is expected, not {kind_of(value)}.")
            yield number, value
            if scanner.peek() == "]":
                break
            scanner.skip(",")
    scanner.record = 0
    scanner.skip("]")


_UNFINISHED = ("", ".", "e", "E", "e+", "e-", "E+", "E-")  # what may follow a number whose rest isn't read yet


class _Scanner:
    """A window of decoded text that moves along the file; `json` decodes one value of it at a time."""

    def __init__(self, source: _Source, path: Path) -> None:
        self.path = path
        self.record = 0  # the one being read, for errors
        self._source = source
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder(parse_constant=_refuse)
        self._text, self._at, self._before = "", 0, 0  # the window, our place in it, the characters left behind
        self._ended = False

    def peek(self) -> str:
        """The next character that is no space, not taken; '' at the end of the file."""
        while True:
            self._at = cast("re.Match[str]", _SPACE.match(self._text, self._at)).end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def skip(self, character: str) -> None:
        """Take one character that must be next."""
        if (found := self.peek()) != character:
            self.fail(f"{character!r} is expected" + (f", not {found!r}" if found else " where the file ends"))
        self._at += 1

    def value(self) -> Any:
        """Take the next value."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # The value may go on in the part of the file that isn't read yet.
                if len(self._text) - self._at < _MAX_RECORD and self._more():
                    continue
                self._at = error.pos
                self.fail(error.msg)
            except (ValueError, RecursionError) as error:  # NaN; a number of thousands of digits; nested too deep
                self.fail(str(error))
            # "12" at the edge may be the start of "123", "0." that of "0.5", "1e-" that of "1e-3".
            if len(self._text) - end <= 2 and self._text[end:] in _UNFINISHED and self._more():
                continue
            self._at = end
            return value

    def fail(self, what: str) -> NoReturn:
        place = f"record {self.record}, " if self.record else ""
        raise DataError(
            f"{self.path} is no proper JSON: {place}character {self._before + self._at}: {what}.",
            next=f"python -m json.tool {self.path}",
        )

    def _more(self) -> bool:
        if self._ended:
            return False
        block = self._source.read()
        self._ended = not block
        self._before += self._at
        self._text = self._text[self._at :] + self._utf8.decode(block, final=self._ended)
        self._at = 0
        return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
