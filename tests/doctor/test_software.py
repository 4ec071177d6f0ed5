"""Python, packages, torch, GPUs, compiler, plug-ins: faults put in, findings read out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.stores.packages import install
from umecache.doctor import software
from umecache.doctor.finding import Finding

TORCH: dict[str, Any] = {
    "version": "2.9.0",
    "cuda": "13.0",
    "hip": None,
    "usable": False,
    "warnings": [],
    "mps": False,
    "gpus": [],
    "numpy": {"sum": 3, "version": "2.4.0"},
}
VISION: dict[str, Any] = {"version": "0.24.0", "kept": [0]}


def statuses(findings: Iterable[Finding]) -> list[str]:
    found = list(findings)
    assert all(bool(each.remedy) == (each.status != "PASS") for each in found), "each fault has its remedy"
    return [each.status for each in found]


def only(findings: Iterable[Finding]) -> Finding:
    (found,) = findings
    return found


def test_an_old_python() -> None:
    assert statuses(software.python()) == ["PASS"]
    assert statuses(software.python((3, 9, 1))) == ["FAIL"]


class Fake:
    """What pip wrote down, as a test wants it."""

    def __init__(self, packages: Mapping[str, tuple[str, list[str]]]) -> None:
        self.packages = packages

    def version(self, name: str) -> str:
        from importlib.metadata import PackageNotFoundError

        if name.lower() not in self.packages:
            raise PackageNotFoundError(name)
        return self.packages[name.lower()][0]

    def requires(self, name: str) -> list[str]:
        return self.packages[name.lower()][1]


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Any:
    def write(**packages: tuple[str, list[str]]) -> None:
        fake = Fake(packages)
        monkeypatch.setattr(software.metadata, "version", fake.version)
        monkeypatch.setattr(software.metadata, "requires", fake.requires)

    return write


OURS = ("0.1.0", ["torch>=2.4", "torchvision>=0.19", "numpy>=1.26", 'pytest>=8; extra == "dev"'])


def test_packages_that_fit(pip: Any) -> None:
    pip(umecache=OURS, torch=("2.9.0+cu130", ["sympy"]), torchvision=("0.24.0+cu130", ["torch==2.9.0", "numpy"]),
        numpy=("2.4.0", []), sympy=("1.14", []))  # fmt: skip
    found = only(software.packages())
    assert (found.status, "3 fit together" in found.says) == ("PASS", True)


def test_a_torchvision_that_does_not_match_its_torch(pip: Any) -> None:
    pip(umecache=OURS, torch=("2.9.0", []), torchvision=("0.23.0", ["torch==2.8.0"]), numpy=("2.4.0", []))
    found = only(software.packages())
    assert found.status == "FAIL"
    assert found.says == "torchvision 0.23.0 needs torch==2.8.0; 2.9.0 is installed"
    assert "pip install --upgrade torch torchvision" in found.remedy


def test_packages_that_are_missing_old_or_of_other_builds(pip: Any) -> None:
    pip(umecache=OURS, torch=("2.9.0+cpu", ["sympy>1.13"]), torchvision=("0.24.0+cu130", []), sympy=("1.12", []))
    found = list(software.packages())
    assert statuses(found) == ["WARN", "FAIL", "WARN"]
    assert "torch 2.9.0+cpu needs sympy>1.13; 1.12 is installed" in found[0].says
    assert "needs numpy>=1.26; it is missing" in found[1].says and found[1].remedy == "pip install 'numpy>=1.26'"
    assert "builds for different devices" in found[2].says
    pip()
    assert "not installed" in only(software.packages()).says


def test_torch_that_is_missing_or_at_odds() -> None:
    missing = {"error": "ModuleNotFoundError: No module named 'torch'"}
    assert only(software.judge_torch({"torch": missing, "torchvision": missing})).status == "FAIL"
    odd = {**TORCH, "numpy": {"error": "RuntimeError: Numpy is not available"}}
    found = list(software.judge_torch({"torch": odd, "torchvision": {"error": "RuntimeError: torchvision::nms"}}))
    assert statuses(found) == ["FAIL", "FAIL"]
    assert "numpy<2" in found[0].remedy
    assert statuses(software.judge_torch({"torch": TORCH, "torchvision": VISION})) == ["PASS", "PASS"]


@pytest.mark.parametrize(
    ("torch", "driver", "status", "says"),
    [
        ({}, None, "PASS", "none"),
        ({"mps": True}, None, "PASS", "mps"),
        ({"cuda": None}, {"version": "560.1", "cuda": "12.6"}, "WARN", "built for CPUs only"),
        ({}, {"version": "560.1", "cuda": "12.6"}, "WARN", "built for CUDA 13.0; the driver 560.1 runs CUDA 12.6"),
        ({"warnings": ["driver too odd"]}, {"version": "580.1", "cuda": "13.0"}, "WARN", "no GPU: driver too odd"),
        ({}, {"version": "580.1", "cuda": ""}, "WARN", "CUDA_VISIBLE_DEVICES"),
        ({"gpus": [{"name": "H200", "bytes": 140 << 30, "sum": 16.0}]}, None, "PASS", "H200, 140 GiB"),
        ({"gpus": [{"name": "K80", "error": "no kernel image"}]}, None, "FAIL", "K80 can't be used: no kernel"),
    ],
)
def test_gpus(torch: dict[str, Any], driver: dict[str, str] | None, status: str, says: str) -> None:
    found = only(software.judge_gpus({**TORCH, **torch}, driver))
    assert (found.status, says in found.says) == (status, True), found
    assert statuses([found])


def test_the_driver_s_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '| NVIDIA-SMI 580.95.05   Driver Version: 580.95.05   CUDA Version: 13.0 |'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert software.driver() == {"version": "580.95.05", "cuda": "13.0"}
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    if not Path("/proc/driver/nvidia/version").exists():
        assert software.driver() is None


def test_the_kernel() -> None:
    assert statuses(software.judge_kernel({"ready": True, "reason": ""})) == ["PASS"]
    found = only(software.judge_kernel({"ready": False, "reason": "no C compiler found"}))
    assert (found.status, "no C compiler found" in found.says) == ("WARN", True)


@pytest.fixture
def fake_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a torch of one's own before the real one, for processes that are started."""

    def write(source: str) -> None:
        (tmp_path / "torch.py").write_text(source)
        before = ":".join(path for path in sys.path if path)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{before}")

    return write


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "raise ImportError('libcudart.so.13: not found')",
            "can't be imported: ImportError: libcud",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
        ("import sys; sys.exit('licence expired')", "licence expired"),
        ("import time; time.sleep(60)", "takes more than"),
    ],
)
def test_a_torch_that_breaks_the_process(
    source: str, says: str, fake_torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_torch(source)
    monkeypatch.setattr(software, "PROBE_SECONDS", 0.8 if "sleep" in source else 30)
    found = only(software.devices())
    assert (found.check, found.status) == ("torch", "FAIL")
    assert says in found.says and found.remedy


def test_plug_ins_are_loaded_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "good_one", "It = 1", {"umecache.encoders": {"good": "good_one:It"}})
    install(tmp_path, "bad_one", "import os; os.abort()", {"umecache.fusions": {"bad": "bad_one:It"}})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))
    found = {each.says.split(" of ")[0]: each for each in software.plug_ins()}
    assert found["encoder 'good'"].status == "PASS"
    assert found["fusion method 'bad'"].status == "WARN"
    assert "bad-one can't be loaded" in found["fusion method 'bad'"].says


def test_no_check_imports_torch_here() -> None:
    code = (
        "import sys, umecache.doctor.checks as c; c.all_checks(); sys.exit(bool({'torch', 'numpy'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_pip_wrote_down_here() -> None:
    found = list(software.packages())
    assert found and {each.check for each in found} == {"packages"}
