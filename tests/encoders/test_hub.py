"""The hub, played by a server on this machine: downloads, the cache, and what is said without either."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from tests.encoders.checkpoints import write_checkpoint
from tests.encoders.contract import hidden_states
from umecache.encoders import transformers_models
from umecache.encoders.base import EncoderOptions
from umecache.encoders.hub import Snapshot, choose_files, fetch
from umecache.encoders.registry import load_encoder
from umecache.errors import UmecacheError, UsageError

REPO = "umecache-tests/deberta"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


# Which files


def test_safetensors_before_bin() -> None:
    names = ["README.md", "config.json", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "vocab.txt"]
    assert choose_files(names) == ["config.json", "vocab.txt", "model.safetensors"]


def test_bin_where_nothing_else_is() -> None:
    """As microsoft/deberta-v3-base lies on the hub."""
    names = [
        ".gitattributes",
        "README.md",
        "config.json",
        "generator_config.json",
        "pytorch_model.bin",
        "pytorch_model.generator.bin",
        "rust_model.ot",
        "spm.model",
        "tf_model.h5",
        "tokenizer_config.json",
    ]
    assert choose_files(names) == ["config.json", "spm.model", "tokenizer_config.json", "pytorch_model.bin"]


def test_shards_come_with_their_index() -> None:
    names = ["config.json", "model.safetensors.index.json", "pytorch_model.bin", "onnx/model.onnx"]
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert choose_files([*names, *shards]) == ["config.json", "model.safetensors.index.json", *shards]


def test_only_the_top_folder() -> None:
    names = ["config.json", "1_Pooling/config.json", "onnx/vocab.txt", "openvino/x.model"]
    assert choose_files(names) == ["config.json"]


# A hub on this machine


class Hub(BaseHTTPRequestHandler):
    """The three requests that a download makes."""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        server: Any = self.server
        path = self.path.partition("?")[0]
        server.requests.append(path)
        if server.broken:
            self.connection.close()
        elif f"/{REPO}" not in path:
            code = "GatedRepo" if "gated" in path else "RepoNotFound"
            self._send(403 if "gated" in path else 404, b"{}", body, {"X-Error-Code": code})
        elif "/revision/" in path and path.rpartition("/")[2] not in ("main", "v1", COMMIT):
            self._send(404, b"{}", body, {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith("/api/") and "/tree/" in path:
            entries = [{"type": "file", "path": p.name, "size": p.stat().st_size, "oid": _git_oid(p)}
                       for p in server.folder.iterdir()]  # fmt: skip
            self._send(200, json.dumps(entries).encode(), body)
        elif path.startswith("/api/"):
            siblings = [{"rfilename": p.name} for p in server.folder.iterdir()]
            facts = {"id": REPO, "modelId": REPO, "sha": COMMIT, "siblings": siblings, "private": False}
            self._send(200, json.dumps(facts).encode(), body)
        else:
            file = server.folder / path.rpartition("/")[2]
            headers = {"ETag": f'"{_git_oid(file)}"', "X-Repo-Commit": COMMIT}
            self._send(200, file.read_bytes(), body, headers)

    def _send(self, status: int, data: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


def _git_oid(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    folder = write_checkpoint(tmp_path / "remote", "deberta-v2", form="bin")
    (folder / "README.md").write_text("not needed")
    (folder / "tf_model.h5").write_bytes(b"not needed")
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.requests, server.broken = folder, [], False
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.cache = tmp_path / "cache"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def get(hub: Any, repo: str = REPO, revision: str | None = None) -> Snapshot:
    return fetch(repo, revision, cache=hub.cache, endpoint=hub.url)


def test_download(hub: Any) -> None:
    snapshot = get(hub)
    assert snapshot.commit == COMMIT
    assert sorted(p.name for p in snapshot.folder.iterdir()) == [
        "config.json",
        "pytorch_model.bin",
        "spm.model",
        "tokenizer_config.json",
    ]
    for file in snapshot.folder.iterdir():
        assert file.read_bytes() == (hub.folder / file.name).read_bytes()


def test_a_pinned_commit_is_asked_for_once(hub: Any) -> None:
    first = get(hub, revision=COMMIT)
    asked = len(hub.requests)
    assert get(hub, revision=COMMIT) == first
    assert len(hub.requests) == asked


def test_without_a_network_the_cache_serves(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = get(hub)
    hub.broken = True
    assert get(hub) == first
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert get(hub) == first


def test_half_a_download_is_no_cache(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (get(hub).folder / "pytorch_model.bin").unlink()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UmecacheError, match="not in the local cache"):
        get(hub)


@pytest.mark.parametrize("offline", [True, False])
def test_neither_network_nor_cache(hub: Any, monkeypatch: pytest.MonkeyPatch, offline: bool) -> None:
    hub.broken = True
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(UmecacheError) as error:
        get(hub)
    assert error.value.what == f"{REPO} is not in the local cache, and the hub can't be reached."
    assert f"hf download {REPO} --local-dir deberta" in error.value.next
    assert "huggingface-cli download" in error.value.next
    assert error.value.next.endswith("--weights deberta")
    assert error.value.why


def test_unknown_repositories_and_revisions(hub: Any) -> None:
    with pytest.raises(UsageError, match="no repository umecache-tests/other"):
        get(hub, "umecache-tests/other")
    with pytest.raises(UsageError, match="is gated"):
        get(hub, "umecache-tests/gated")
    with pytest.raises(UsageError, match="no revision 'v9'"):
        get(hub, revision="v9")
    assert get(hub, revision="v1").commit == COMMIT


def test_encoder_from_the_hub(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """DeBERTa-v3's case: `.bin` weights and SentencePiece, through the same path as a local folder."""
    monkeypatch.setattr(transformers_models, "fetch", lambda repo, revision: get(hub, repo, revision))
    encoder = load_encoder(f"hf:{REPO}")
    assert encoder.origin["revision"] == COMMIT
    assert encoder.origin["repo"] == REPO
    local = load_encoder(str(hub.folder))
    assert encoder.recipe == local.recipe
    questions = ["what color is the cat?", "yes"]
    for a, b in zip(hidden_states(encoder, questions), hidden_states(local, questions), strict=True):
        assert a.equal(b)
    random = load_encoder(f"hf:{REPO}", EncoderOptions(weights="random", seed=1))
    assert random.recipe["tokenizer_sha256"] == local.recipe["tokenizer_sha256"]
    assert random.recipe["weights_sha256"] != local.recipe["weights_sha256"]
