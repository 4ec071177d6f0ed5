"""The hub: there, gone, slow, not to be asked; tokens: seen, never shown."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from umecache.doctor import network


@pytest.fixture
def server() -> Iterator[str]:
    """Answers every HEAD with the status in its path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(int(self.path.strip("/") or 200))
            self.end_headers()

        def log_message(self, *told: object) -> None:
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.mark.parametrize(("path", "status"), [("", "PASS"), ("/401", "PASS"), ("/503", "WARN")])
def test_a_hub_that_answers(server: str, path: str, status: str) -> None:
    (found,) = network.hub({"HF_ENDPOINT": server + path})
    assert found.status == status, found


def test_a_hub_that_is_gone_or_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (found,) = network.hub({"HF_ENDPOINT": f"http://127.0.0.1:{free.getsockname()[1]}"})
        assert found.status == "WARN" and "HF_HUB_OFFLINE=1" in found.remedy
        free.listen()  # connects, and never answers
        monkeypatch.setattr(network, "SECONDS", 0.2)
        (found,) = network.hub({"HF_ENDPOINT": f"http://127.0.0.1:{free.getsockname()[1]}"})
        assert found.status == "WARN" and "timed out" in found.says
    (found,) = network.hub({"HF_ENDPOINT": "file:///etc/passwd"})
    assert found.status == "WARN" and "no web address" in found.says


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_by_choice_is_respected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *told, **more: pytest.fail("the network was asked"))
    (found,) = network.hub({name: "true"})
    assert (found.status, name in found.says) == ("PASS", True)


def test_tokens_are_seen_and_never_shown(tmp_path: Path) -> None:
    (none,) = network.tokens({}, tmp_path)
    assert none.status == "PASS" and none.says.startswith("none")
    file = tmp_path / ".cache" / "huggingface" / "token"
    file.parent.mkdir(parents=True)
    file.write_text("hf_secret")
    file.chmod(0o644)
    open_to_all, listed = network.tokens({"WANDB_API_KEY": "w_secret", "AWS_ACCESS_KEY_ID": "a_secret"}, tmp_path)
    assert (open_to_all.status, open_to_all.remedy) == ("WARN", f"chmod 600 {file}")
    for who in ("Hugging Face", "Weights & Biases (WANDB_API_KEY)", "S3 (AWS_ACCESS_KEY_ID)"):
        assert who in listed.says
    assert "secret" not in repr([open_to_all, listed])
    file.chmod(0o600)
    assert [each.status for each in network.tokens({}, tmp_path)] == ["PASS"]
