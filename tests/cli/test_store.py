"""`umecache store`: words for people, one JSON document for programs, the exit status for scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.stores.toy import FACTS, Toy, begin, fill, tree, write
from umecache.cli.app import run
from umecache.stores import open_store

TOY = Toy.make()


@pytest.fixture
def path(private_home: Path) -> Path:
    """A store where the command looks for stores."""
    place = private_home / "stores/vqa/toy-12345678/val"
    write(place, TOY)
    return place


def damage(path: Path) -> None:
    file = path / "tokens/c/1/0"
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)


def document(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> dict[str, Any]:
    assert run(["store", *argv, "--json"]) == status
    out = capsys.readouterr()
    found: dict[str, Any] = json.loads(out.out)
    return found


def words(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> str:
    assert run(["store", *argv]) == status
    return capsys.readouterr().out


def test_ls(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    begin(path.parent / "train", TOY)
    found = document(capsys, "ls")
    assert [(Path(row["path"]).name, row["complete"], row["records"]) for row in found["stores"]] == [
        ("train", False, 24),
        ("val", True, 24),
    ]
    text = words(capsys, "ls")
    assert "vqa/toy-12345678/val  24 records" in text
    assert f"zarr float16, complete, {len(TOY.failed)} failed" in text
    assert "not complete: 0 of 4 shards" in text
    assert "No stores below" in words(capsys, "ls", str(tmp_path))
    assert "There is no folder" in document(capsys, "ls", "nowhere", status=2)["error"]["what"]


def test_one_broken_store_does_not_hide_the_others(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(path.parent / "train", TOY)
    (path / "manifest.json").write_text("{")
    found = document(capsys, "ls")
    assert [row["complete"] for row in found["stores"]] == [True, False]
    assert "no valid JSON" in found["stores"][1]["error"]["what"]
    assert "no valid JSON" in words(capsys, "ls")


@pytest.mark.parametrize("name", ["vqa/toy-12345678/val", "vqa/toy-12345678", "vqa"])
def test_info(path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    found = document(capsys, "info", name)
    assert found["path"] == str(path)
    assert found["complete"]
    assert found["records"] == 24
    assert found["bytes"] == sum(len(data) for data in tree(path).values())
    assert found["recipe"]["layers"] == "last"
    text = words(capsys, "info", str(path))
    for part in (
        "recipe.layers",
        "numpy",
        "origin.batch_size",
        found["fingerprint"],
        "24 ids, 17 stored",
        "no such file",
    ):
        assert part in text


def test_info_of_an_unfinished_store(private_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = private_home / "stores/s"
    writer = begin(place, TOY)
    claimed = writer.claim()
    fill(next(claimed), TOY)
    claimed.close()
    found = document(capsys, "info", str(place))
    assert (found["complete"], found["shards_done"], found["shards"]) == (False, 1, 4)
    assert "not complete: 1 of 4 shards" in words(capsys, "info", str(place))


def test_several_stores_are_listed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(path.parent / "train", TOY)
    error = document(capsys, "info", str(path.parent), status=2)["error"]
    assert "holds 2 stores" in error["what"]
    assert str(path) in error["why"]
    error = document(capsys, "info", "nothing", status=2)["error"]
    assert error["next"] == "umecache store ls"


def test_verify(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "verify", str(path))
    assert (found["ok"], found["records"], found["damaged"]) == (True, 24, [])
    assert "sound, 24 records (every byte checked)" in words(capsys, "verify", str(path))
    damage(path)
    found = document(capsys, "verify", str(path), status=1)
    assert not found["ok"]
    (row,) = found["damaged"]
    assert set(row) == {"shard", "ids", "reason"}
    assert row["shard"] == 1
    assert TOY.ids[5] in row["ids"]
    text = words(capsys, "verify", str(path), status=1)
    assert "DAMAGED" in text
    assert f"shard 1: tokens/c/1/0 has changed. Damaged ids: {', '.join(map(str, row['ids']))}" in text
    assert f"Next: umecache store repair {path}" in text


def test_verify_a_sample(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, "verify", str(path), "--sample", "5%")["checked"] == 4
    assert document(capsys, "verify", str(path), "--sample", "1.0")["checked"] == 16
    assert document(capsys, "verify", str(path), "--seconds", "60")["checked"] == 16
    assert "a sample of 4 records" in words(capsys, "verify", str(path), "--sample", "0.05")
    damage(path)
    assert not document(capsys, "verify", str(path), "--sample", "100%", status=1)["ok"]
    for share in ("0", "120%", "few", "-5%"):
        assert "no share" in document(capsys, "verify", str(path), f"--sample={share}", status=2)["error"]["what"]


def test_verify_what_can_t_be(path: Path, private_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(private_home / "stores/open", TOY)
    error = document(capsys, "verify", "open", status=2)["error"]
    assert "0 of 4 shards" in error["what"]
    (path / "manifest.json").write_text("{")
    assert not document(capsys, "verify", str(path), status=1)["ok"]


def test_repair(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing to repair" in words(capsys, "repair", str(path))
    damage(path)
    before = tree(path)
    # The toy's encoder is none of umecache's: refused in words, and nothing is changed.
    error = document(capsys, "repair", str(path), status=2)["error"]
    assert error["what"] and error["next"]
    assert tree(path) == before
    assert document(capsys, "verify", str(path), status=1)["damaged"][0]["shard"] == 1


def test_repair_by_the_command_that_made_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(path)
    assert "nothing to repair" in words(capsys, "repair", "--reopen", str(path))
    damage(path)
    found = document(capsys, "repair", "--reopen", str(path))
    assert (found["shards"], found["reopened"]) == ([1], True)
    write(path, TOY)
    assert tree(path) == before
    damage(path)
    assert "shards to extract: 1" in words(capsys, "repair", "--reopen", str(path))


def test_diff(path: Path, private_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = private_home / "other"
    write(other, TOY, manifest={**FACTS, "recipe": {"layers": "-2"}})
    found = document(capsys, "diff", str(path), str(other))
    assert found["same"] is False
    assert 'recipe.layers: "last" in the first, "-2" in the second' in found["differences"]
    text = words(capsys, "diff", str(path), str(other))
    assert "different fingerprints" in text
    assert "recipe.layers" in text
    text = words(capsys, "diff", str(path), str(path))
    assert "equal fingerprints: same recipe, same inputs" in text
    assert "no difference" in text


def test_convert(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "convert", str(path), str(tmp_path / "h"), "--format", "hdf5")
    assert found["lossless"]
    assert found["format"] == "hdf5"
    assert found["fingerprint"] == open_store(path).fingerprint
    assert "nothing is lost" in words(capsys, "convert", str(path), str(tmp_path / "z"), "--compression", "zstd")
    text = words(capsys, "convert", str(path), str(tmp_path / "i"), "--dtype", "int8")
    assert "values are now int8: another recipe" in text
    error = document(capsys, "convert", str(path), str(tmp_path / "x"), "--format", "tar", status=2)["error"]
    assert "Unknown store format 'tar'" in error["what"]


def test_the_command_line_is_light() -> None:
    script = (
        "import sys; from umecache.cli.app import run; run(['store', '--help'])\n"
        "heavy = {'torch', 'zarr', 'h5py', 'numpy', 'umecache.stores.reader'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert all(name in done.stdout for name in ("ls", "info", "verify", "repair", "diff", "convert"))


def test_ls_of_several_homes(
    path: Path, private_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fingerprint = write(tmp_path / "lab/stores/vqa/other/val", TOY)["fingerprint"]
    run_folder = tmp_path / "lab/runs/vqa/run-1"
    run_folder.mkdir(parents=True)
    (run_folder / "run.json").write_text(json.dumps({"stores": {"val": {"fingerprint": fingerprint}}}))
    writer = begin(path.parent / "train", TOY)
    shard = writer.take(0)
    assert shard is not None
    monkeypatch.setenv("UMECACHE_HOME", f"{private_home}:{tmp_path / 'lab'}")
    found = document(capsys, "ls")
    assert found["folders"] == [str(private_home / "stores"), str(tmp_path / "lab/stores")]
    begun, done, theirs = found["stores"]
    assert (begun["home"], theirs["home"]) == (found["folders"][0], found["folders"][1])
    assert done["runs"] == theirs["runs"] == [str(run_folder)]  # a store is what it holds, wherever it lies
    assert len(begun["workers"]) == 1
    text = words(capsys, "ls")
    for part in (f"{tmp_path / 'lab/stores'}:", "vqa/other/val  24", "new today", "used by 1 run", "being written by"):
        assert part in text
    assert words(capsys, "info", "vqa/other").startswith("path")
    shard.discard()
