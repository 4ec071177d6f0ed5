"""Which processes take part."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch

from umecache.errors import JobFailed, UsageError
from umecache.extraction import devices
from umecache.extraction.devices import Place, here, parse_devices, start_processes


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("spec", "expected"), [("cpu", ["cpu"]), ("cpu:3", ["cpu"] * 3)])
def test_cpu_processes(spec: str, expected: list[str]) -> None:
    assert parse_devices(spec) == expected


def test_auto_takes_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert parse_devices("auto") == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    assert parse_devices("1,3") == ["cuda:1", "cuda:3"]
    with pytest.raises(UsageError, match="no GPU 4"):
        parse_devices("0,4")


@pytest.mark.parametrize("spec", ["gpu", "cpu:", "0;1", ""])
def test_unreadable(spec: str) -> None:
    with pytest.raises(UsageError, match="--devices"):
        parse_devices(spec)


def test_alone() -> None:
    place = here("cpu")
    assert (place.is_main, place.processes, place.device) == (True, 1, torch.device("cpu"))
    assert place.share(lambda: 5) == 5
    place.leave()  # nothing to leave


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"WORLD_SIZE": "1"}, False),
        ({"WORLD_SIZE": "2"}, True),
        ({"SLURM_NTASKS": "4"}, False),  # inside an sbatch script, not under srun
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "1", "SLURM_STEP_ID": "0"}, True),
    ],
)
def test_launched(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: bool) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert devices.launched() is expected


def test_slurm_speaks_torch() -> None:
    environment = {
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "SLURM_NTASKS": "8",
        "SLURM_STEP_NODELIST": "gpu[03-05,9]",
        "SLURM_JOB_ID": "123456",
    }
    devices._translate_slurm(environment)
    assert (environment["RANK"], environment["LOCAL_RANK"], environment["WORLD_SIZE"]) == ("5", "1", "8")
    assert environment["MASTER_ADDR"] == "gpu03"
    assert environment["MASTER_PORT"] == "23456"


@pytest.mark.parametrize(("nodelist", "first"), [("node1", "node1"), ("a,b", "a"), ("gpu[3,7]", "gpu3")])
def test_first_host(nodelist: str, first: str) -> None:
    assert devices._first_host(nodelist) == first


Starter = Callable[[str], list["subprocess.Popen[str]"]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Starter]:
    """Let `start_processes` run some code in place of the command line, and remember what it started."""
    started: list[subprocess.Popen[str]] = []
    original = subprocess.Popen

    def starter(code: str) -> list[subprocess.Popen[str]]:
        def popen(argv: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
            child = original([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)
            started.append(child)
            return child

        monkeypatch.setattr(devices.subprocess, "Popen", popen)
        return started

    yield starter
    for child in started:
        if child.stdout is not None:
            child.stdout.close()


SHARING = """
import sys
from umecache.errors import DataError
from umecache.extraction.devices import here
place = here("cpu")
print(place.share(lambda: f"from {place.index}"), flush=True)
def fail(): raise DataError("broken.")
try:
    place.share(fail)
except DataError as error:
    print(error.what, flush=True)
place.leave()
"""


def test_processes_share_what_the_main_one_made(start: Starter) -> None:
    runs = start(SHARING)
    assert start_processes(["cpu", "cpu"], []) == 0
    assert [child.stdout.read().split("\n")[:2] for child in runs if child.stdout] == [["from 0", "broken."]] * 2


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(2)", 2), ("pass", 0)])
def test_the_status_is_the_main_process(start: Starter, code: str, status: int) -> None:
    start(code)
    assert start_processes(["cpu", "cpu"], []) == status


def test_a_killed_main_process_is_said_in_words(start: Starter) -> None:
    start("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(JobFailed, match="signal 9"):
        start_processes(["cpu"], [])


def test_place_of_a_worker_is_silent() -> None:
    assert not Place(torch.device("cpu"), index=1, processes=2).is_main


def test_who_is_the_main_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert devices.is_main(), "a process alone, whatever a shell has left in its environment"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not devices.is_main()
    monkeypatch.setenv("RANK", "0")
    assert devices.is_main()
