"""Small data folders and a web server that misbehaves on request."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Records = list[dict[str, Any]]
WriteFolder = Callable[..., Path]


def question_records(count: int, *, first: int = 1) -> Records:
    """Questions with the ids first, first + 1, ...; two questions to an image."""
    return [
        {"question_id": i, "image_id": 100 + i // 2, "question": f"What is number {i}?"}
        for i in range(first, first + count)
    ]


def annotation_records(questions: Records, answers: list[str] | None = None) -> Records:
    """One annotation per question; six people agree and four don't."""
    records = []
    for place, question in enumerate(questions):
        main = (answers or ["yes", "no", "2"])[place % len(answers or "abc")]
        given = [main] * 6 + ["maybe", "Two", "the cat", "red."]
        records.append(
            {
                "question_id": question["question_id"],
                "image_id": question["image_id"],
                "question_type": f"type {place % 2}",
                "answer_type": "yes/no" if main in ("yes", "no") else "other",
                "multiple_choice_answer": main,
                "answers": [
                    {"answer": text, "answer_confidence": "yes", "answer_id": number}
                    for number, text in enumerate(given, 1)
                ],
            }
        )
    return records


@pytest.fixture
def write_json() -> Callable[[Path, Any], Path]:
    """Write a document as JSON; gzipped where the name ends so."""

    def write(path: Path, document: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = document if isinstance(document, str) else json.dumps(document)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        return path

    return write


@pytest.fixture
def write_folder(tmp_path: Path, write_json: Callable[[Path, Any], Path]) -> WriteFolder:
    """`write_folder("name", train=6, val=4)`: a data folder with that many questions per split, and all its images.

    A split's value may also be a pair (questions, annotations); annotations None leaves the file out.
    """

    def write(name: str = "toy", *, images: bool = True, **splits: Any) -> Path:
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        first = 1
        for split, value in splits.items():
            if isinstance(value, int):
                questions = question_records(value, first=first)
                value = (questions, annotation_records(questions))
                first += 1000
            questions, annotations = value
            write_json(folder / f"questions_{split}.json", {"info": {"made": "here"}, "questions": questions})
            if annotations is not None:
                write_json(folder / f"annotations_{split}.json", {"annotations": annotations, "license": "none"})
            for question in questions if images else ():
                (folder / "images" / f"TOY_{split}_{question['image_id']:012d}.jpg").write_bytes(b"jpg")
        return folder

    return write


@dataclass
class Site:
    """What the server holds and how it behaves; `requests` is what it was asked."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True  # False: answers every request with the whole file
    length: bool = True  # False: doesn't say how long the file is
    shift: int = 0  # ranges start so many bytes later than asked for, and end with bytes of the start
    conditional: bool = True  # False: knows no If-Range
    drops: list[int] = field(default_factory=list)  # GETs to come end after so many bytes
    statuses: list[int] = field(default_factory=list)  # GETs to come are answered with these instead
    head: bool = True
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Range
    conditions: list[str | None] = field(default_factory=list)  # If-Range

    def gets(self, name: str) -> list[str | None]:
        return [ranges for method, path, ranges in self.requests if method == "GET" and path == f"/{name}"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        site, asked = self.site, self.headers.get("Range")
        site.requests.append((self.command, self.path, asked))
        self.close_connection = True
        data = site.files.get(self.path.lstrip("/"))
        status = site.statuses.pop(0) if body and site.statuses else 200
        if data is None or status != 200 or (not body and not site.head):
            self.send_response(404 if data is None else status if status != 200 else 501)
            self.send_header("Content-Length", "0")
            self.send_header("Retry-After", "7")
            self.end_headers()
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and site.ranges else 0
        condition = self.headers.get("If-Range")
        site.conditions.append(condition)
        if site.conditional and condition not in (None, site.etag, site.modified):
            start = 0
        if start >= len(data) > 0:
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + site.shift}-{len(data) - 1}/{len(data)}")
        if site.length:
            self.send_header("Content-Length", str(len(data) - start))
        if site.etag:
            self.send_header("ETag", site.etag)
        if site.modified:
            self.send_header("Last-Modified", site.modified)
        self.send_header("Connection", "close")
        self.end_headers()
        if body:
            end = start + site.drops.pop(0) if site.drops else len(data)
            sent = data[start + site.shift :] + data[: site.shift] if start else data
            self.wfile.write(sent[: end - start])


@pytest.fixture
def site() -> Iterator[Site]:
    """A web server on this machine."""
    site = Site()
    handler = type("Handler", (_Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        site.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        server.shutdown()
        thread.join()
