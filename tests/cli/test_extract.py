"""`umecache extract` as people type it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from umecache.cli.app import run
from umecache.data.dataset import open_dataset
from umecache.data.sample import write_sample

KEYS = {
    *("path", "model", "split", "modality", "format", "records", "tokens", "dim", "bytes", "failed", "seconds"),
    *("recipe", "fingerprint"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sample"
    write_sample(folder, images=100, seed=0)
    return folder


def _json(argv: list[str], capsys: pytest.CaptureFixture[str], status: int = 0) -> Any:
    assert run([*argv, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_the_json_document(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = _json(["extract", "--model", "sample-text", "--model", "sample-image", "--data", str(data)], capsys)
    assert [(s["model"], s["split"]) for s in document["stores"]] == [
        ("sample-text", "train"),
        ("sample-text", "val"),
        ("sample-image", "train"),
        ("sample-image", "val"),
    ]
    for store in document["stores"]:
        assert store.keys() >= KEYS
        assert store["bytes"] > 0
        assert sum(store["time"].values()) == pytest.approx(1, abs=0.01)
        assert Path(store["path"]).is_dir()
        assert Path(store["path"]).parent.name.endswith(store["recipe"][:8])


def test_words_name_the_stores_and_the_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sample(tmp_path / "sample", images=20, seed=0, splits=("train",))
    split = open_dataset(tmp_path / "sample").split("train")
    path = split.image_path(split.image_ids[0])
    assert path is not None
    path.write_bytes(b"")
    argv = ["extract", "--model", "sample-image", "--data", str(tmp_path / "sample"), "--layers", "last,-2"]
    assert run([*argv, "--log", str(tmp_path / "log")]) == 0
    said = capsys.readouterr()
    assert "1 inputs were not read" in (tmp_path / "log").read_text()
    assert said.out.count("were not read, and are recorded so") == 1, "layers share their failures"
    assert "1 not read" in said.out
    assert str(split.image_ids[0]) in said.out
    assert "--retry-failed" in said.out
    assert run([*argv, "--strict"]) == 1
    assert "complete, nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--model", "sampel-text"], ["sample-text", "umecache models"]),
        (["--model", "sample-text", "--format", "parquet"], ["parquet", "zarr, hdf5"]),
        (["--model", "sample-text", "--dtype", "float8"], ["float8", "float16"]),
        (["--model", "sample-text", "--batch-size", "many"], ["--batch-size"]),
        (["--model", "sample-text", "--layers", "first"], ["--layers"]),
        (["--model", "sample-text", "--layers", "-1,all"], ["--layers"]),
        (["--model", "sample-text", "--layers", "-1,-9"], ["-9", "sample-text"]),
        (["--model", "sample-text", "--tracker", "pencil"], ["pencil", "tensorboard"]),
        (["--model", "sample-text", "--retry-failed"], ["umecache extract"]),
        (["--model", "sample-text", "--split", "nonsense"], ["nonsense", "train"]),
        (["--model", "sample-text", "--devices", "tpu"], ["--devices"]),
        (["--model", "sample-text", "--model-arg", "x"], ["KEY=VALUE"]),
        (["--model", "sample-text", "--limit", "0"], ["--limit"]),
        (["--model", "sample-text", "--weights", "/no/such/file"], ["/no/such/file"]),
    ],
)
def test_mistakes_are_one_line(
    argv: list[str], words: list[str], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["extract", "--data", str(data), *argv]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1, said.err
    for word in words:
        assert word in said.err


def test_a_missing_data_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    document = _json(["extract", "--model", "sample-text", "--data", str(tmp_path / "no")], capsys, status=2)
    assert str(tmp_path / "no") in document["error"]["what"]
    assert document["error"]["next"]


def test_two_processes_print_one_document(data: Path, tmp_path: Path) -> None:
    argv = ["extract", "--model", "sample-text", "--data", str(data), "--split", "train", "--shard-records", "5"]
    argv += ["--store", str(tmp_path / "store"), "--devices", "cpu:2", "--json"]
    done = subprocess.run([sys.executable, "-m", "umecache", *argv], capture_output=True, text=True, check=True)
    (store,) = json.loads(done.stdout)["stores"]
    assert store["records"] == len(open_dataset(data).split("train").questions)


def test_a_mistake_in_two_processes_is_one_document(data: Path, tmp_path: Path) -> None:
    argv = ["extract", "--model", "sampel-text", "--data", str(data), "--devices", "cpu:2", "--json"]
    done = subprocess.run([sys.executable, "-m", "umecache", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "sample-text" in json.loads(done.stdout)["error"]["why"]


def test_torchrun_joins_in(data: Path, tmp_path: Path) -> None:
    argv = ["extract", "--model", "sample-text", "--data", str(data), "--split", "train", "--shard-records", "5"]
    argv += ["--store", str(tmp_path / "store"), "--json"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run([*launcher, "-m", "umecache", *argv], capture_output=True, text=True, check=True)
    (store,) = json.loads(done.stdout)["stores"]
    assert store["records"] == len(open_dataset(data).split("train").questions)


STOPPED_AFTER_THE_SECOND_SHARD = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
from umecache.cli.app import main
from umecache.stores.shard import ShardWriter

commit, shards = ShardWriter._commit, []

def interrupted(self):
    commit(self)
    shards.append(self)
    if len(shards) == 2:
        os.kill(os.getpid(), NUMBER)
        time.sleep(0.3)  # the main thread hears of it before this one goes on

ShardWriter._commit = interrupted
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_one_line_and_what_was_finished(number: signal.Signals, data: Path, tmp_path: Path) -> None:
    argv = ["extract", "--model", "sample-image", "--data", str(data), "--split", "train", "--shard-records", "5"]
    argv += ["--store", str(tmp_path / "store")]
    code = [sys.executable, "-c", STOPPED_AFTER_THE_SECOND_SHARD.replace("NUMBER", str(int(number))), *argv]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "run the same command again" in done.stderr.splitlines()[-1]
    done_before = len(list((tmp_path / "store" / "train" / "receipts").glob("*.json")))
    assert done_before >= 2, "what was encoded is kept, what was not is not waited for"
    again = subprocess.run([sys.executable, "-m", "umecache", *argv], capture_output=True, text=True, check=True)
    assert f"{done_before} of " in again.stderr
    assert "shards were finished before; going on from there" in again.stderr
