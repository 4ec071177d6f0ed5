"""The parts of the hub's HTTP API that its own client uses to read and write a data set, on loopback.

Written after the client (`huggingface_hub`): repositories, trees in pages, resolve with ranges and a signed redirect
for large files, preupload, LFS batch and commits. Files from `LARGE` bytes on are LFS.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = 2000
PAGE = 5  # entries of a tree in one answer
TOKEN = "hf_s3cret"
SIGNATURE = "X-Amz-Signature=s3cret"


class Hub:
    """A hub with one token; `with` it.

    Attributes:
        repositories: ORG/NAME -> path -> bytes, of the newest commit.
        objects: LFS contents by sha256.
        commits: message of each.
        requests: method and path of each.
        down: paths of repositories that answer 503.
        endless: trees never end.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.commits: list[str] = []
        self.requests: list[str] = []
        self.down: set[str] = set()
        self.endless = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def tree(self, name: str, path: str, recursive: bool) -> list[dict[str, Any]] | None:
        """Entries below a folder, as the hub tells of them; None: there is no such folder."""
        prefix, found = f"{path}/" if path else "", {}
        for each, data in sorted(self.repositories[name].items()):
            if each.startswith(prefix):
                inner = each.removeprefix(prefix).split("/")
                for k in range(1, len(inner) if recursive else min(2, len(inner))):
                    folder = prefix + "/".join(inner[:k])
                    found[folder] = {"type": "directory", "path": folder, "oid": "0" * 40}
                if recursive or len(inner) == 1:
                    found[each] = self.entry(each, data)
        return list(found.values()) or None

    def entry(self, path: str, data: bytes) -> dict[str, Any]:
        """One file."""
        told = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        if len(data) >= LARGE:
            told["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return told

    def commit(self, name: str, body: bytes) -> None:
        """Do what the lines of a commit say."""
        files = self.repositories[name]
        for line in body.decode().splitlines():
            item = json.loads(line)
            said = item["value"]
            if item["key"] == "header":
                self.commits.append(said["summary"])
            elif item["key"] == "file":
                files[said["path"]] = base64.b64decode(said["content"])
            elif item["key"] == "lfsFile":
                files[said["path"]] = self.objects[said["oid"]]
            elif item["key"] == "deletedFile":
                del files[said["path"]]


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    repository = r"/api/datasets/(?P<name>[^/]+/[^/]+)"

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
            if self.command != "HEAD":
                self.wfile.write(data)

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, query = unquote(urlsplit(self.path).path), parse_qs(urlsplit(self.path).query)
            hub.requests.append(f"{self.command} {path}")
            writes = self.command in ("POST", "PUT") and not path.startswith("/lfs/")
            if writes and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer(401, {"error": "Invalid username or password."})
                return
            for pattern, act in ROUTES.items():
                if found := re.fullmatch(pattern, f"{self.command} {path}"):
                    name = found.groupdict().get("name")
                    if name in hub.down:
                        self.answer(503)
                    elif name is not None and name not in hub.repositories:
                        self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
                    else:
                        act(self, found.groupdict(), query, body)
                    return
            self.answer(404, {"error": f"no route for {self.command} {path}"})

        do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

        def create(self, said: dict[str, str], query: Any, body: bytes) -> None:
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            status = 409 if name in hub.repositories else 200
            hub.repositories.setdefault(name, {})
            self.answer(status, {"url": f"{hub.url}/datasets/{name}"})

        def info(self, said: dict[str, str], query: Any, body: bytes) -> None:
            self.answer(200, {"id": said["name"], "sha": "1" * 40, "private": False, "tags": [], "downloads": 0})

        def tree(self, said: dict[str, str], query: Any, body: bytes) -> None:
            found = hub.tree(said["name"], said["path"] or "", query.get("recursive", ["false"])[0].lower() == "true")
            if found is None and said["path"]:
                self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
                return
            start, found = int(query.get("cursor", ["0"])[0]), found or []
            if hub.endless:
                found = [hub.entry(f"{start}-{k}", b"x") for k in range(1000)]
                more = {"Link": f'<{hub.url}{urlsplit(self.path).path}?recursive=true&cursor={start + 1}>; rel="next"'}
                self.answer(200, found, **more)
                return
            more = {}
            if start + PAGE < len(found):
                asked = f"recursive={query.get('recursive', ['false'])[0]}&cursor={start + PAGE}"
                more = {"Link": f'<{hub.url}{urlsplit(self.path).path}?{asked}>; rel="next"'}
            self.answer(200, found[start : start + PAGE], **more)

        def paths(self, said: dict[str, str], query: Any, body: bytes) -> None:
            asked, files = parse_qs(body.decode())["paths"], hub.repositories[said["name"]]
            self.answer(200, [hub.entry(path, files[path]) for path in asked if path in files])

        def preupload(self, said: dict[str, str], query: Any, body: bytes) -> None:
            modes = [
                {
                    "path": each["path"],
                    "uploadMode": "lfs" if each["size"] >= LARGE else "regular",
                    "shouldIgnore": False,
                }
                for each in json.loads(body)["files"]
            ]
            self.answer(200, {"files": modes})

        def batch(self, said: dict[str, str], query: Any, body: bytes) -> None:
            objects = []
            for each in json.loads(body)["objects"]:
                upload = {"href": f"{hub.url}/lfs/{each['oid']}"}
                missing = {} if each["oid"] in hub.objects else {"actions": {"upload": upload}}
                objects.append({"oid": each["oid"], "size": each["size"], **missing})
            self.answer(200, {"transfer": "basic", "objects": objects})

        def upload(self, said: dict[str, str], query: Any, body: bytes) -> None:
            if hashlib.sha256(body).hexdigest() != said["oid"]:
                self.answer(400)
                return
            hub.objects[said["oid"]] = body
            self.answer(200)

        def committed(self, said: dict[str, str], query: Any, body: bytes) -> None:
            hub.commit(said["name"], body)
            self.answer(200, {"commitUrl": f"{hub.url}/datasets/{said['name']}/commit/1", "commitOid": "1" * 40})

        def resolve(self, said: dict[str, str], query: Any, body: bytes) -> None:
            data = hub.repositories[said["name"]].get(said["path"])
            if data is None:
                self.answer(404, X_Error_Code="EntryNotFound")
            elif len(data) >= LARGE:
                self.answer(302, Location=f"{hub.url}/cdn/{said['name']}/{said['path']}?{SIGNATURE}")
            else:
                self.part(data)

        def cdn(self, said: dict[str, str], query: Any, body: bytes) -> None:
            if not self.path.endswith(SIGNATURE):
                self.answer(403)
                return
            self.part(hub.repositories[said["name"]][said["path"]])

        def part(self, data: bytes) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked is None:
                self.answer(200, data)
                return
            start, stop = int(asked[1]), int(asked[2] or len(data)) + 1
            span = f"bytes {start}-{min(stop, len(data)) - 1}/{len(data)}"
            self.answer(206 if start < len(data) else 416, data[start:stop], Content_Range=span)

        def yaml(self, said: dict[str, str], query: Any, body: bytes) -> None:
            self.answer(200, {"errors": [], "warnings": []})

        def log_message(self, format: str, *args: Any) -> None:
            pass

    files = r"datasets/(?P<name>[^/]+/[^/]+)"
    ROUTES: dict[str, Callable[[Handler, dict[str, str], Any, bytes], None]] = {
        "POST /api/repos/create": Handler.create,
        "POST /api/validate-yaml": Handler.yaml,
        f"GET {repository}(/revision/[^/]+)?": Handler.info,
        f"GET {repository}/tree/[^/]+/?(?P<path>.+)?": Handler.tree,
        f"POST {repository}/paths-info/[^/]+": Handler.paths,
        f"POST {repository}/preupload/[^/]+": Handler.preupload,
        f"POST {repository}/commit/[^/]+": Handler.committed,
        f"POST /{files}.git/info/lfs/objects/batch": Handler.batch,
        "PUT /lfs/(?P<oid>[0-9a-f]{64})": Handler.upload,
        f"(GET|HEAD) /{files}/resolve/[^/]+/(?P<path>.+)": Handler.resolve,
        "(GET|HEAD) /cdn/(?P<name>[^/]+/[^/]+)/(?P<path>.+)": Handler.cdn,
    }
    return Handler
