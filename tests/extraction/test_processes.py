"""Real processes on one store, however they were started: the bytes are those of one process alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from umecache.data.sample import write_sample
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.extract import extract
from umecache.stores.verify import verify

SHARD = 4
PYTHON = sys.executable


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sample"
    write_sample(folder, images=100, seed=0)
    return folder


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    store = tmp_path_factory.mktemp("alone") / "store"
    extract(
        ExtractConfig(
            models=(ModelRequest(name="sample-image"),),
            data=str(data),
            splits=("train",),
            shard_records=SHARD,
            store=store,
            device="cpu",
        )
    )
    return _bytes(store)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _options(data: Path, store: Path) -> list[str]:
    what = ["--model", "sample-image", "--data", str(data), "--split", "train", "--shard-records", str(SHARD)]
    return ["extract", *what, "--store", str(store), "--json"]


def _start(argv: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _end(process: subprocess.Popen[str], status: int = 0) -> Any:
    """Its JSON document, where it printed one."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    return json.loads(out)["stores"][0] if out.strip() else None


def test_four_processes(data: Path, alone: dict[str, bytes], tmp_path: Path) -> None:
    argv = [PYTHON, "-m", "umecache", *_options(data, tmp_path / "store"), "--devices", "cpu:4"]
    assert _end(_start(argv))["failed"] == 0
    assert _bytes(tmp_path / "store") == alone


def test_two_nodes(data: Path, alone: dict[str, bytes], tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    torchrun = [PYTHON, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
    torchrun += ["--master_addr", "127.0.0.1", "--master_port", port]
    work = ["-m", "umecache", *_options(data, tmp_path / "store"), "--devices", "cpu"]
    nodes = [_start([*torchrun, "--node_rank", str(rank), *work]) for rank in range(2)]
    documents = [_end(node) for node in nodes]
    assert [document is None for document in documents] == [False, True], "the first node speaks"
    assert _bytes(tmp_path / "store") == alone


# Waits until the other command has the same store before it, so that the two really share the work.
TOGETHER = """
import os, signal, sys, time
from pathlib import Path
from umecache.cli.app import main
from umecache.encoders.sample import SampleImage
from umecache.extraction.encode import ShardEncoder

mine, other, dies = Path(os.environ["MINE"]), Path(os.environ["OTHER"]), "DIES" in os.environ
encode, forward, batches = ShardEncoder.encode, SampleImage.encode, []

def together(self, shards, told):
    mine.touch()
    while not other.exists():
        time.sleep(0.01)
    encode(self, shards, told)

def slowly(self, batch):
    batches.append(batch)
    if dies and len(batches) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return forward(self, batch)

ShardEncoder.encode, SampleImage.encode = together, slowly
main()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_two_commands_one_of_which_may_be_killed(
    killed: bool, data: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    argv = [PYTHON, "-c", TOGETHER, *_options(data, tmp_path / "store")]
    marks = [str(tmp_path / "one"), str(tmp_path / "two")]
    first = _start(argv, MINE=marks[0], OTHER=marks[1], **({"DIES": "1"} if killed else {}))
    second = _start(argv, MINE=marks[1], OTHER=marks[0])
    one, two = _end(first, -signal.SIGKILL if killed else 0), _end(second)
    assert _bytes(tmp_path / "store") == alone
    assert verify(tmp_path / "store" / "train").ok
    distinct = json.loads(alone["train/manifest.json"])["distinct"]
    if killed:
        assert distinct - 3 * SHARD <= two["encoded"] < distinct, "what the other had finished was kept"
    else:
        assert one["encoded"] + two["encoded"] == distinct, "nothing was encoded twice"
        assert min(one["encoded"], two["encoded"]) > 0
        assert one["fingerprint"] == two["fingerprint"]


DIES_UNDER_A_LAUNCHER = """
import os, signal, time
from umecache.cli.app import main
from umecache.encoders.sample import SampleImage

forward = SampleImage.encode

def dying(self, batch):
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)  # so that the other can't have done it all before
    return forward(self, batch)

SampleImage.encode = dying
main()
"""


def test_a_launcher_that_takes_all_down_with_one_and_the_same_command_again(
    data: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    script = tmp_path / "dies.py"
    script.write_text(DIES_UNDER_A_LAUNCHER)
    options = _options(data, tmp_path / "store")
    torchrun = [PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    down = _start([*torchrun, str(script), *options, "--devices", "cpu"])
    down.communicate(timeout=300)
    assert down.returncode != 0
    assert not (tmp_path / "store" / "train" / "CHECKSUMS").exists() or _bytes(tmp_path / "store") == alone
    _end(_start([PYTHON, "-m", "umecache", *options, "--devices", "cpu"]))
    assert _bytes(tmp_path / "store") == alone
