"""Reading from web servers, good and bad."""

from __future__ import annotations

import base64
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.sharing.site import Site
from umecache.errors import UsageError
from umecache.sharing.http import HttpRemote
from umecache.sharing.remotes import RemoteFailed, RemoteMissing, open_remote, read_small

DATA = bytes(range(256)) * 2000


@pytest.fixture
def remote(site: Site, tmp_path: Path) -> HttpRemote:
    (tmp_path / "served/a b").mkdir()
    (tmp_path / "served/a b/é").write_bytes(DATA)
    return HttpRemote(site.url)


@pytest.mark.parametrize("ranges", [True, False])
def test_ranges(remote: HttpRemote, site: Site, ranges: bool) -> None:
    site.ranges = ranges
    name = "a b/é"
    assert b"".join(remote.stream(name)) == DATA
    assert remote.ranged
    assert b"".join(remote.below("a b").stream("é", 7, 300_000)) == DATA[7:300_000]
    assert b"".join(remote.stream(name, 400_000)) == DATA[400_000:]
    assert remote.ranged is ranges
    assert remote.size(name) == len(DATA)


def test_behind_the_end(remote: HttpRemote) -> None:
    assert b"".join(remote.stream("a b/é", len(DATA))) == b""


def test_a_query_goes_along(remote: HttpRemote, site: Site) -> None:
    signed = open_remote(f"{site.url}/a b?token=1".replace(" ", "%20")).below("")
    assert b"".join(signed.stream("é", 0, 3)) == DATA[:3]
    assert site.requests[-1][1].endswith("?token=1")
    assert "token" not in signed.url  # which is shown in errors and cards


def test_errors(remote: HttpRemote, site: Site) -> None:
    with pytest.raises(RemoteMissing, match="There is no"):
        list(remote.stream("nothing"))
    assert remote.size("nothing") is None
    site.broken["a b/é"] = 500
    with pytest.raises(RemoteFailed, match="500"):
        list(remote.stream("a b/é"))
    assert remote.size("a b/é") is None
    site.broken.clear()
    site.cut["a b/é"] = 10
    with pytest.raises(RemoteFailed, match="broke off"):
        list(remote.stream("a b/é"))
    site.shift = 3
    with pytest.raises(RemoteFailed, match="another range"):
        list(remote.stream("a b/é", 5))
    with pytest.raises(RemoteFailed, match="can't be reached"):
        list(HttpRemote("http://127.0.0.1:9").stream("x"))


def test_is_read_only(remote: HttpRemote) -> None:
    with pytest.raises(UsageError, match="only be read"):
        remote.write({"x": b""})
    with pytest.raises(UsageError):
        remote.remove(["x"])


def test_a_login(store: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login = base64.b64encode(b"me:s3cret").decode()
    site.secret, url = login, f"{site.url}/val"
    with pytest.raises(RemoteFailed, match="403") as caught:
        read_small(open_remote(url), "CHECKSUMS", 1 << 20)
    assert "UMECACHE_URLS" in caught.value.next
    said = url.replace("http://", "http://me:s3cret@")
    assert read_small(open_remote(said).below("tokens").below("c"), "1/0", 1 << 20)
    monkeypatch.setenv("UMECACHE_URLS", said)
    assert read_small(open_remote(url).below("tokens"), "c/1/0", 1 << 20)


def test_a_login_does_not_follow_to_another_server(store: Path, site: Site, tmp_path: Path) -> None:
    """Whoever it is that a server sends us to."""
    seen: list[str | None] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            if self.path.startswith("/there"):
                self.send_error(404)
                return
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/there")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with pytest.raises(RemoteMissing):
            read_small(open_remote(f"http://me:s3cret@127.0.0.1:{server.server_address[1]}/x"), "CHECKSUMS", 100)
        server.shutdown()
        thread.join()
    assert seen[0] is not None
    assert seen[1:] == [None]
