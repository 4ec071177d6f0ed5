"""Python, packages that don't fit together, torch and its GPUs, the compiler, plug-ins.

Versions are read from what pip wrote down; whether things work is tried in a process of its own (`probe.py`), so that a
torch that is missing, that crashes or that hangs is a finding like any other.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from umecache.doctor.finding import Finding
from umecache.stores import plugins

LEAST_PYTHON = (3, 11)
PROBE_SECONDS = 90.0  # torch from a slow share, and a kernel to compile


def python(version: Sequence[int] = sys.version_info[:3]) -> Iterator[Finding]:
    """The interpreter."""
    told = ".".join(map(str, version))
    if tuple(version[:2]) < LEAST_PYTHON:
        needed = ".".join(map(str, LEAST_PYTHON))
        yield Finding("Python", "FAIL", f"{told}; umecache needs {needed}", f"make an environment with Python {needed}")
    else:
        yield Finding("Python", "PASS", f"{told}, {platform.system()} {platform.machine()}, {sys.executable}")


def packages() -> Iterator[Finding]:
    """What umecache needs, and what these packages ask of each other."""
    from packaging.requirements import Requirement

    if _version("umecache") is None:
        yield Finding("packages", "WARN", "umecache is not installed, so what it needs is unknown", "pip install .")
        return
    asked = [Requirement(line) for line in metadata.requires("umecache") or ()]
    direct = {_plain(each.name): each for each in asked if _applies(each)}
    wrong = 0
    for name, requirement in direct.items():
        lines = [("umecache", requirement)]
        if _version(name) is not None:
            lines += [(name, other) for other in map(Requirement, metadata.requires(name) or ()) if _applies(other)]
        for who, needs in lines:
            version = _version(needs.name)
            if version is None or not needs.specifier.contains(version, prereleases=True):
                wrong += 1
                # Among packages that umecache uses itself a misfit breaks; elsewhere it may never be met.
                ours = who == "umecache" or _plain(needs.name) in direct
                found = "it is missing" if version is None else f"{version} is installed"
                install = f"pip install '{needs.name}{needs.specifier}'"
                if {who, _plain(needs.name)} == {"torchvision", "torch"}:
                    install = "pip install --upgrade torch torchvision (together: one is built for the other)"
                says = f"{who} {_version(who) or ''} needs {needs.name}{needs.specifier}; {found}"
                yield Finding("packages", "FAIL" if ours else "WARN", says, install)
    builds = {name: (_version(name) or "").partition("+")[2] for name in ("torch", "torchvision")}
    if len(set(builds.values())) > 1 and all(builds.values()):
        told = " and ".join(f"{name} {_version(name)}" for name in builds)
        yield Finding("packages", "WARN", f"{told} are builds for different devices", "install both from one index")
    if not wrong:
        main = ", ".join(f"{name} {_version(name)}" for name in ("torch", "torchvision", "numpy") if _version(name))
        yield Finding("packages", "PASS", f"{len(direct)} fit together: {main}, ...")


def _applies(requirement: Any) -> bool:
    return requirement.marker is None or bool(requirement.marker.evaluate({"extra": ""}))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def devices() -> Iterator[Finding]:
    """torch, torchvision, GPUs and the pair kernel, as a process of its own finds them."""
    with tempfile.TemporaryDirectory(prefix="umecache-doctor-") as folder:
        # A home of its own: the kernel that is compiled to see whether it can be is left nowhere.
        environment = {**os.environ, "UMECACHE_HOME": folder}
        command = [sys.executable, "-m", "umecache.doctor.probe"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, env=environment)
        except subprocess.TimeoutExpired:
            yield Finding(
                "torch",
                "FAIL",
                f"importing it takes more than {PROBE_SECONDS:g} s",
                "python -X importtime -c 'import torch'",
            )
            return
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        died = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        yield Finding("torch", "FAIL", f"importing and using it ends Python ({died}: {last})", REINSTALL)
        return
    report = json.loads(done.stdout.splitlines()[-1])
    yield from judge_torch(report)
    if "error" not in report["torch"]:
        yield from judge_gpus(report["torch"], driver())
        yield from judge_kernel(report["kernel"])


REINSTALL = "pip install --force-reinstall torch torchvision"


def judge_torch(report: Mapping[str, Any]) -> Iterator[Finding]:
    """torch, its exchange with NumPy, torchvision."""
    torch, vision = report["torch"], report["torchvision"]
    if "error" in torch:
        yield Finding("torch", "FAIL", f"can't be imported: {torch['error']}", REINSTALL)
        return
    if "error" in torch["numpy"]:
        says = f"torch {torch['version']} and NumPy don't work together: {torch['numpy']['error']}"
        yield Finding("torch", "FAIL", says, "pip install --upgrade torch, or pip install 'numpy<2' for an older torch")
    else:
        yield Finding("torch", "PASS", f"{torch['version']}, with NumPy {torch['numpy']['version']}")
    if "error" in vision:
        says = f"does not work with torch {torch['version']}: {vision['error']}"
        yield Finding("torchvision", "FAIL", says, "pip install --upgrade torch torchvision (together)")
    else:
        yield Finding("torchvision", "PASS", f"{vision['version']}; its operators work")


def driver() -> dict[str, str] | None:
    """Version of NVIDIA's driver and the newest CUDA that it runs; None where there is no such driver."""
    tool = shutil.which("nvidia-smi")
    if tool is not None:
        try:
            said = subprocess.run([tool], capture_output=True, text=True, timeout=20).stdout
        except (OSError, subprocess.TimeoutExpired):
            said = ""
        found = re.search(r"Driver Version: *([\d.]+).*?CUDA[^:]*Version: *([\d.]+)", said)
        if found:
            return {"version": found[1], "cuda": found[2]}
    loaded = Path("/proc/driver/nvidia/version")
    if loaded.exists():
        found = re.search(r"Kernel Module\D*([\d.]+)", loaded.read_text())
        return {"version": found[1] if found else "?", "cuda": ""}
    return None


def judge_gpus(torch: Mapping[str, Any], found: Mapping[str, str] | None) -> Iterator[Finding]:
    """Every GPU that torch sees; and why it sees none where there is one."""
    for index, gpu in enumerate(torch["gpus"]):
        label = f"GPU {index}"
        if "error" in gpu:
            says = f"{gpu.get('name', 'unknown')} can't be used: {gpu['error']}"
            yield Finding(
                label, "FAIL", says, f"install a torch built for it (this one: CUDA {torch['cuda']}), or --devices cpu"
            )
        else:
            yield Finding(label, "PASS", f"{gpu['name']}, {gpu['bytes'] / 2**30:.0f} GiB")
    if torch["gpus"]:
        return
    if torch["mps"]:
        yield Finding("GPU", "PASS", "Apple's (mps)")
    elif found is None:
        yield Finding("GPU", "PASS", "none; everything runs on the CPU")
    elif torch["cuda"] is None and torch["hip"] is None:
        says = f"there is an NVIDIA driver ({found['version']}), but this torch is built for CPUs only"
        yield Finding("GPU", "WARN", says, "install a CUDA build: https://pytorch.org/get-started/locally")
    elif found["cuda"] and _numbers(found["cuda"]) < _numbers(torch["cuda"]):
        says = (
            f"torch is built for CUDA {torch['cuda']}; the driver {found['version']} runs CUDA {found['cuda']} at most"
        )
        yield Finding(
            "GPU", "WARN", says, f"update the driver, or install a torch built for CUDA {found['cuda']} or older"
        )
    else:
        why = (
            torch["warnings"][0] if torch["warnings"] else "CUDA_VISIBLE_DEVICES may hide it, or the container lacks it"
        )
        yield Finding(
            "GPU", "WARN", f"there is an NVIDIA driver ({found['version']}), but torch sees no GPU: {why}", "nvidia-smi"
        )


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version or ""))


def judge_kernel(kernel: Mapping[str, Any]) -> Iterator[Finding]:
    """The compiled pair stage of `ume`, which is several times as fast on CPUs as what stands in for it."""
    if kernel.get("ready"):
        yield Finding("compiler", "PASS", "the pair kernel compiles and passes its check")
    else:
        says = f"the pair kernel is not used: {kernel.get('reason') or kernel.get('error')}"
        yield Finding(
            "compiler",
            "WARN",
            says,
            "install a C compiler (apt install gcc), or set CC; `ume` on CPUs is slower without",
        )


def plug_ins() -> Iterator[Finding]:
    """What installed packages offer: each loaded in a process of its own."""
    points = [point for group in plugins.GROUPS for point in plugins.offered(group).values()]
    for point in points:
        what = f"{plugins.GROUPS[point.group]} {point.name!r} of {plugins.package_of(point)}"
        code = f"from umecache.stores import plugins; plugins.load(plugins.offered({point.group!r})[{point.name!r}])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PROBE_SECONDS)
        if done.returncode == 0:
            yield Finding("plug-in", "PASS", f"{what} loads")
        else:
            last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            remedy = f"pip install --upgrade {plugins.package_of(point)}, or uninstall it"
            yield Finding("plug-in", "WARN", f"{what} can't be loaded: {last}", remedy)
