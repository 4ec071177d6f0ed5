"""The parts of the JSON API of Google Cloud Storage that gcsfs uses to read and write objects, on loopback."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 7  # objects of a listing in one answer, whatever is asked for


class Storage:
    """Buckets; `with` it.

    Attributes:
        buckets: name -> object -> bytes.
        requests: method and path of each.
    """

    def __init__(self, *buckets: str) -> None:
        self.buckets: dict[str, dict[str, bytes]] = {name: {} for name in buckets}
        self.requests: list[str] = []
        self.begun: dict[str, tuple[str, str, bytearray]] = {}  # resumable uploads
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Storage:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _facts(bucket: str, name: str, data: bytes) -> dict[str, Any]:
    when = "2026-01-01T00:00:00.000Z"
    times = {"timeCreated": when, "updated": when}
    return {
        "kind": "storage#object",
        "bucket": bucket,
        "name": name,
        "size": str(len(data)),
        "generation": "1",
        **times,
    }


def _handler(storage: Storage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def answer(self, status: int, body: bytes | Any = b"", **headers: str) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def refuse(self, status: int, why: str) -> None:
            self.answer(status, {"error": {"code": status, "message": why}})

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            query = {key: value[0] for key, value in parse_qs(parts.query).items()}
            storage.requests.append(f"{self.command} {parts.path}")
            found = re.fullmatch(r"(/upload|/download)?/(?:storage/v1/)?b/([^/]+)(?:/o(?:/(.+))?)?", parts.path)
            if found is None:
                self.refuse(404, f"no route {self.path}")
                return
            kind, bucket, name = found[1], unquote(found[2]), unquote(found[3] or "")
            objects = storage.buckets.get(bucket)
            if objects is None:
                self.refuse(404, "The specified bucket does not exist.")
            elif kind == "/upload":
                self.upload(bucket, objects, query, body)
            elif not name and parts.path.endswith("/o"):
                self.listing(bucket, objects, query)
            elif not name:
                self.answer(200, {"kind": "storage#bucket", "name": bucket})
            elif name not in objects:
                self.refuse(404, f"No such object: {bucket}/{name}")
            elif self.command == "DELETE":
                del objects[name]
                self.answer(204)
            elif query.get("alt") == "media":
                self.media(objects[name])
            else:
                self.answer(200, _facts(bucket, name, objects[name]))

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

        def listing(self, bucket: str, objects: dict[str, bytes], query: dict[str, str]) -> None:
            prefix, start = query.get("prefix", ""), int(query.get("pageToken", "0"))
            names = sorted(name for name in objects if name.startswith(prefix))
            items = [_facts(bucket, name, objects[name]) for name in names[start : start + PAGE]]
            more = {"nextPageToken": str(start + PAGE)} if start + PAGE < len(names) else {}
            self.answer(200, {"kind": "storage#objects", "items": items, **more})

        def upload(self, bucket: str, objects: dict[str, bytes], query: dict[str, str], body: bytes) -> None:
            if query["uploadType"] == "multipart":
                _, facts, content, _ = body.split(b"--==0==", 3)
                name = json.loads(facts.split(b"\n\n", 1)[1])["name"]
                objects[name] = content.split(b"\n\n", 1)[1][:-1]
                self.answer(200, _facts(bucket, name, objects[name]))
            elif "upload_id" not in query:
                number = str(len(storage.begun))
                storage.begun[number] = bucket, query["name"], bytearray()
                place = f"{storage.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={number}"
                self.answer(200, b"{}", Location=place)
            else:
                _, name, data = storage.begun[query["upload_id"]]
                data += body
                if self.headers["Content-Range"].endswith("/*"):
                    self.answer(308, Range=f"bytes=0-{len(data) - 1}")
                else:
                    objects[name] = bytes(data)
                    self.answer(200, _facts(bucket, name, objects[name]))

        def media(self, data: bytes) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked is None:
                self.answer(200, data)
                return
            start, stop = int(asked[1]), int(asked[2] or len(data)) + 1
            if start >= len(data):
                self.refuse(416, "The requested range cannot be satisfied.")
                return
            self.answer(206, data[start:stop], Content_Range=f"bytes {start}-{min(stop, len(data)) - 1}/{len(data)}")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
