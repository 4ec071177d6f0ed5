"""`umecache store push`, `pull` and `card` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sharing.site import Site
from tests.stores.toy import Toy, tree, write
from umecache.cli.app import run
from umecache.stores import open_store

TOY = Toy.make()


@pytest.fixture
def path(private_home: Path) -> Path:
    place = private_home / "stores/vqa/toy-12345678/val"
    write(place, TOY)
    return place


def document(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> dict[str, Any]:
    assert run(["store", *argv, "--json"]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def words(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run(["store", *argv]) == 0
    return capsys.readouterr().out


def test_push_and_pull(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    share = str(tmp_path / "share/toy")
    assert "would move" in words(capsys, "push", "vqa/toy-12345678", share, "--dry-run")
    found = document(capsys, "push", "vqa/toy-12345678", share, "--split", "val", "--licence", "mit")
    assert found["bytes"] == found["stores"][0]["bytes"] == sum(len(data) for data in tree(path).values())
    assert "nothing to move" in words(capsys, "push", "vqa/toy-12345678", share)
    text = words(capsys, "pull", share, str(tmp_path / "mine"))
    assert open_store(path).fingerprint in text
    assert tree(tmp_path / "mine/val") == tree(path)
    found = document(capsys, "pull", share)  # where fuse looks
    assert Path(found["stores"][0]["target"]).parent.parent == path.parent.parent.parent / "toy"


def test_some_ids(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("".join(f"{name}\n" for name in [*TOY.ids[:3], TOY.ids[0], ""]))
    text = words(capsys, "pull", str(path), str(tmp_path / "few"), "--ids", str(file))
    assert "(a part, 3 ids)" in text
    assert len(open_store(tmp_path / "few")) == 3
    error = document(capsys, "pull", str(path), "--ids", str(file), status=2)["error"]
    assert "FOLDER --ids" in error["next"]
    file.write_text("\n")
    assert "names no id" in document(capsys, "pull", str(path), "x", "--ids", str(file), status=2)["error"]["what"]
    assert "can't be read" in document(capsys, "pull", str(path), "x", "--ids", "no", status=2)["error"]["what"]
    file.write_text("a\n1\n")
    assert (
        "no id 'a'"
        in document(capsys, "pull", str(path), str(tmp_path / "x"), "--ids", str(file), status=2)["error"]["what"]
    )


def test_card(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = words(capsys, "card", "vqa", "--licence", "mit")
    assert text.startswith("---\nlicense: ")
    assert open_store(path).fingerprint in text
    assert document(capsys, "card", str(path))["path"] == str(path)


def test_a_secret_is_in_no_message_and_no_file(
    path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ids").write_text(f"{TOY.ids[0]}\n")
    with Site(path.parent) as site:
        site.secret, url = "token=s3cret", f"{site.url}/val"
        said = f"{url}?{site.secret}"
        lines = [
            (1, "pull", url, "a"),
            (1, "pull", f"{url}?token=no-s3cret", "a"),
            (0, "pull", said, "a"),
            (0, "pull", said, "b", "--json"),
            (2, "pull", said, "--ids", str(tmp_path / "ids")),
            (2, "pull", said.replace("/val", "/none"), "c"),
            (2, "push", str(path), said),
            (2, "pull", "ftp://me:s3cret@host/x?token=s3cret", "c"),
            (1, "pull", "ssh://me:s3cret@127.0.0.1:9/x", "c"),
        ]
        monkeypatch.chdir(tmp_path)
        for status, *words in lines:
            assert run(["store", *words]) == status, words
        monkeypatch.setenv("UMECACHE_URLS", said)
        assert run(["store", "pull", url, "d"]) == 0
    assert run(["store", "pull", said, "e"]) == 1  # nobody listens any more
    heard = capfd.readouterr()
    assert "UMECACHE_URLS" in heard.err
    assert "s3cret" not in heard.out + heard.err
    assert not [name for name, data in tree(tmp_path).items() if b"s3cret" in data]
