"""A web server on loopback that can be made to misbehave."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class Site:
    """Serves a folder; lists nothing.

    Attributes:
        ranges: whether Range is honoured.
        heads: whether HEAD is answered.
        requests: (method, path, Range) of each.
        sent: bytes of bodies.
        cut: path -> bytes after which its connection breaks, once.
        more: path -> bytes sent behind its end, without a length.
        shift: bytes by which ranges are answered wrongly.
        secret: what the query or the login must be; None: anybody may read.
    """

    def __init__(self, root: Path) -> None:
        self.ranges, self.heads, self.shift = True, True, 0
        self.requests: list[tuple[str, str, str | None]] = []
        self.sent = 0
        self.cut: dict[str, int] = {}
        self.more: dict[str, int] = {}
        self.broken: dict[str, int] = {}  # path -> status
        self.secret: str | None = None
        site, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            wbufsize = 1 << 16  # headers and body in one packet

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                name = unquote(urlsplit(self.path).path).lstrip("/")
                asked = self.headers.get("Range")
                with lock:
                    site.requests.append((self.command, self.path, asked))
                file = root / name
                told = (urlsplit(self.path).query, self.headers.get("Authorization", "").removeprefix("Basic "))
                if site.secret is not None and site.secret not in told:
                    self.send_error(403)
                    return
                if name in site.broken or not file.is_file() or (not body and not site.heads):
                    self.send_error(site.broken.get(name, 404 if body or site.heads else 501))
                    return
                data, first, status = file.read_bytes(), 0, 200
                size = len(data)
                if asked and site.ranges:
                    start, _, last = asked.removeprefix("bytes=").partition("-")
                    first, status = int(start), 206
                    if first >= size:
                        self.send_error(416)
                        return
                    data = data[first : int(last) + 1 if last else size]
                self.send_response(status)
                if status == 206:
                    self.send_header("Content-Range", f"bytes {first + site.shift}-{first + len(data) - 1}/{size}")
                if name in site.more:
                    data += b"x" * site.more[name]
                else:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if not body:
                    return
                with lock:
                    stop = site.cut.pop(name, None)
                with contextlib.suppress(OSError):  # the client may have had enough
                    self.wfile.write(data[:stop])
                with lock:
                    site.sent += len(data[:stop])
                self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda request, address: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Site:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fetched(self) -> list[str]:
        """Paths of GET requests."""
        return [unquote(path).lstrip("/") for method, path, _ in self.requests if method == "GET"]
