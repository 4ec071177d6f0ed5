"""A comparison spread over a cluster of two nodes on loopback is that of one process, also where a node dies."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from umecache.errors import MissingExtra, UsageError
from umecache.training import on_ray
from umecache.training.compare import compare
from umecache.training.config import CompareConfig
from umecache.training.on_ray import cluster

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}

# A fusion method that holds its cell up, so that nothing below depends on time: as soon as both cells have a
# checkpoint, it notes that it has begun and waits for the file `go`; before that it is slow.
GATE = """
import os, time
from pathlib import Path
from umecache.fusion.concat import Concat

class Gate(Concat):
    def forward(self, features):
        folder = Path(os.environ["UMECACHE_GATE"])
        while not (folder / "go").exists():
            if len(list((folder / ".run.unfinished").glob("heads-*.safetensors"))) < 2:
                time.sleep(0.02)
                break
            (folder / f"begun-{os.getpid()}").touch()
            time.sleep(0.02)
        return super().forward(features)
"""


# What the command does but for the report, whose figures would take most of the time.
COMPARE = """
import json, sys
from umecache.cli.output import reporter
from umecache.cli.stopping import sigterm_stops
from umecache.training.compare import compare
from umecache.training.compare import compare
from umecache.training.config import CompareConfig

with sigterm_stops():
    said = {name: tuple(value) if isinstance(value, list) else value for name, value in json.load(sys.stdin).items()}
    done = compare(CompareConfig(**said), reporter(True))
print(json.dumps(done.document))
"""


class Job:
    """A comparison in a process and a folder of its own."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        environment = {**ENVIRONMENT, "UMECACHE_GATE": str(folder)}
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen([sys.executable, "-c", COMPARE], env=environment, text=True, **pipes)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({**settings, "out": str(folder / "run")}))
        self.process.stdin.close()
        self.process.stdin = None

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self) -> tuple[dict[str, Any], str]:
        """Its document, and what it said."""
        out, said = self.process.communicate(timeout=300)
        assert self.process.returncode == 0, said
        return json.loads(out), said

    def wait_until_both_cells_have_begun(self) -> None:
        """Both wait at the gate then, each with a checkpoint."""
        until = time.monotonic() + 200
        while len(list(self.folder.glob("begun-*"))) < 2:
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.05)


def alone(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, Any]:
    """The same in this process, without Ray; its document."""
    folder.mkdir()
    (folder / "go").touch()
    monkeypatch.setenv("UMECACHE_GATE", str(folder))
    return compare(CompareConfig(**settings, out=str(folder / "run"))).document


def numbers(out: Path) -> tuple[list[dict[str, str]], dict[str, bytes]]:
    """The table without times, and every weight, answer and history."""
    with (out / "table.csv").open() as file:
        rows = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    kinds = ("*.safetensors", "results_*.json", "history.csv")
    runs = out / "runs"
    return rows, {str(file.relative_to(runs)): file.read_bytes() for kind in kinds for file in runs.rglob(kind)}


@pytest.fixture(scope="module")
def grid(world: Any, kit: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two text stores, an image store, two methods."""
    folder = tmp_path_factory.mktemp("grid")
    (folder / "gate.py").write_text(GATE)
    for split, records in world.splits.items():
        digests = kit.text_digests(records)
        kit.store(folder / "roberta" / split, "text", kit.text_items(records), digests=digests, model="roberta")
    stores = {"text": (str(world.text), str(folder / "roberta")), "image": (str(world.image),)}
    made = {"methods": (f"{folder / 'gate.py'}:Gate", "text-only"), "seeds": (0, 1), "epochs": 40, "width": 8}
    return {"data": str(world.data), **stores, **made, "device": "cpu", "checkpoint_minutes": 0.001}


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The cluster's program, and the address of its head."""
    command = [sys.executable, "-m", "tests.training.ray_cluster"]
    with subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as program:  # fmt: skip
        assert program.stdin is not None and program.stdout is not None
        address = next((line.strip() for line in program.stdout if re.fullmatch(r"[\d.]+:\d+\n", line)), "")
        assert address, "the cluster did not start"
        yield program, address
        program.stdin.close()
        program.wait(60)


def test_a_folder_that_a_node_lacks_is_named(nodes: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    (tmp_path / "job.json").touch()
    script = f"""
from pathlib import Path
from umecache.training.compare import compare
from umecache.training.config import CompareConfig
from umecache.training.on_ray import Errand, _check_nodes, cluster
stores = (({{"train": {{"path": "{tmp_path}/absent/train"}}, "val": {{"path": "s3://elsewhere/val"}}}},),)
with cluster("{nodes[1]}"):
    here = Path("{tmp_path}")
    _check_nodes(Errand(CompareConfig(), here, 1.0, "cpu", stores, here, here, {{}}))
"""
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    said = done.stderr.strip().splitlines()[-1]
    assert re.search(rf"The node \S+ \([0-9a-f]{{6}}\) lacks {tmp_path}/absent/train\. Every node", said), done.stderr


def test_the_command_spreads_one_pair_by_methods(
    grid: dict[str, Any],
    nodes: tuple[subprocess.Popen[str], str],
    world: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    argv = [
        "--data",
        grid["data"],
        "--text",
        str(world.text),
        "--image",
        str(world.image),
        "--seeds",
        "2",
        "--lr",
        "auto",
    ]
    argv += [
        "--methods",
        "concat,ume-res",
        "--epochs",
        "2",
        "--width",
        "8",
        "--lr-grid",
        "1e-3,1e-2",
        "--devices",
        "cpu",
    ]
    command = [sys.executable, "-m", "umecache", "compare", *argv, "--ray", nodes[1], "--out", str(tmp_path / "spread")]
    done = subprocess.run([*command, "--json"], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "concat: trained on" in done.stderr and "ume-res: trained on" in done.stderr
    assert json.loads(done.stdout)["bytes_read"] > 0 and (tmp_path / "spread" / "report.html").is_file()
    single = {**grid, "text": grid["text"][:1], "methods": ("concat", "ume-res"), "epochs": 2}
    alone(tmp_path / "alone", monkeypatch, **single, lr="auto", lr_grid=(1e-3, 1e-2))
    assert numbers(tmp_path / "spread") == numbers(tmp_path / "alone" / "run")


def test_stopped_and_then_with_a_node_killed_the_numbers_are_those_of_one_process(
    grid: dict[str, Any], nodes: tuple[subprocess.Popen[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, address = nodes
    assert program.stdin is not None and program.stdout is not None
    folder = tmp_path / "spread"
    with Job(folder, **grid, ray=address) as stopped:
        stopped.wait_until_both_cells_have_begun()
        stopped.process.send_signal(signal.SIGTERM)
        _, said = stopped.process.communicate(timeout=60)
        assert stopped.process.returncode == 1 and "Stopped by SIGTERM" in said and "goes on" in said
    for sign in folder.glob("begun-*"):
        sign.unlink()
    with Job(folder, **grid, ray=address) as spread:
        spread.wait_until_both_cells_have_begun()  # one on each node
        program.stdin.write("kill\n")
        program.stdin.flush()
        assert program.stdout.readline() == "killed\n"
        (folder / "go").touch()
        document, said = spread.end()
    assert "ray: 2 nodes" in said
    trained_on = re.findall(r"trained on .* \(([0-9a-f]{6})\)", said)
    assert len(trained_on) == 2 and len(set(trained_on)) == 1, said  # both by the node that lives
    one = alone(tmp_path / "alone", monkeypatch, **grid)
    assert numbers(folder / "run") == numbers(tmp_path / "alone" / "run")
    for key in ("method", "text", "image", "mean", "std", "per_answer_type", "per_question_type"):
        assert [row[key] for row in document["rows"]] == [row[key] for row in one["rows"]]
    assert [each["residency"] for each in document["reading"]] == ["memory", "memory"]
    assert not list(tmp_path.glob("*/.*"))


def test_an_address_where_no_cluster_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(on_ray, "CONNECT_SECONDS", 3.0)
        with pytest.raises(UsageError, match="No answer in 3 s"), cluster(f"127.0.0.1:{port}"):
            pass
    with pytest.raises(UsageError, match=r"No Ray cluster answers.*refused"), cluster(f"127.0.0.1:{port}"):
        pass
    with pytest.raises(UsageError, match="HOST:PORT"), cluster("somewhere"):
        pass


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install 'umecache\[ray\]'"), cluster("auto"):
        pass


def test_devices_are_the_cluster_s() -> None:
    with pytest.raises(UsageError, match="auto or cpu"):
        CompareConfig(ray="auto", device="0,1")
