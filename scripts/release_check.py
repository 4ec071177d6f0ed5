"""Build the sdist and the wheel, install the wheel where nothing else of ours is, and run the demo there.

    python scripts/release_check.py            # borrows the dependencies of the environment that runs it; a minute
    python scripts/release_check.py --full     # installs them as well: some gigabytes, and the network

The wheel is built from the unpacked sdist, so what the sdist lacks is missed. Checked: both hold every file that they
should; the installed package is the one that runs, and the repository is not on its path; the demo goes through, the C
kernel compiles from the installed sources, and `umecache --version` says the version of pyproject.toml.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SDIST_HOLDS = [
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "CITATION.cff",
    "Makefile",
    "constraints.txt",
    "zensical.toml",
    "docs/index.md",
    "benchmarks/pairs.py",
    "scripts/release_check.py",
    "tests/conftest.py",
    "tests/test_house.py",
    "tests/stores/versions/1/zarr-float16/manifest.json",
]
LOOK = """
import json, sys, umecache
from umecache.fusion.pairs_cpu import status
print(json.dumps({"file": umecache.__file__, "path": sys.path, "kernel": status().reason}))
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Check the release; exits with a sentence where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="install the dependencies too")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the two files go (default: dist)")
    asked = parser.parse_args(argv)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    with tempfile.TemporaryDirectory(prefix="umecache-release-") as scratch:
        sdist, wheel = build(asked.out, version, Path(scratch))
        check_contents(sdist, wheel)
        python = install(wheel, Path(scratch) / "environment", full=asked.full)
        try_out(python, Path(scratch), version)
    print(f"Both are sound: {sdist.name} ({_size(sdist)}), {wheel.name} ({_size(wheel)})")


def build(out: Path, version: str, scratch: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel made from it."""
    made = scratch / "dist"
    run([sys.executable, "-m", "build", "--outdir", str(made), str(ROOT)], cwd=scratch)
    out.mkdir(parents=True, exist_ok=True)
    names = (f"umecache-{version}.tar.gz", f"umecache-{version}-py3-none-any.whl")
    sdist, wheel = (Path(shutil.copy2(made / name, out / name)) for name in names)
    return sdist, wheel


def check_contents(sdist: Path, wheel: Path) -> None:
    """Both archives hold what they should; the wheel exactly the package."""
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "umecache").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    _demand("the wheel", package, inside)
    if inside - package:
        raise SystemExit(f"The wheel holds what is no part of the package: {sorted(inside - package)[:5]}")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    _demand("the sdist", package | set(SDIST_HOLDS), packed)


def _demand(what: str, wanted: set[str], found: set[str]) -> None:
    if wanted - found:
        raise SystemExit(f"{what} lacks {len(wanted - found)} files: {', '.join(sorted(wanted - found)[:5])}")


def install(wheel: Path, environment: Path, *, full: bool) -> Path:
    """An empty environment with the wheel in it; returns its Python."""
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet", "--disable-pip-version-check", "install"]
    if full:
        run([*pip, str(wheel)], cwd=environment)
        return python
    run([*pip, "--no-deps", "--no-index", str(wheel)], cwd=environment)
    # A path in a .pth file gives the packages there, but not what their .pth files add, such as an editable umecache.
    packages = next(environment.glob("lib/python*/site-packages"))
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def try_out(python: Path, scratch: Path, version: str) -> None:
    """Run what was installed, as somebody would who has nothing else."""
    work = scratch / "somewhere else"
    work.mkdir()
    found = json.loads(run([str(python), "-c", LOOK], cwd=work))
    if not Path(found["file"]).is_relative_to(python.parents[1]) or str(ROOT) in found["path"]:
        raise SystemExit(f"Not the installed package ran, but {found['file']}; path {found['path']}")
    command = str(python.with_name("umecache"))
    said = run([command, "--version"], cwd=work).strip()
    if said != f"umecache {version}":
        raise SystemExit(f"`umecache --version` says {said!r}, pyproject.toml {version}")
    small = ["--images", "100", "--epochs", "1", "--seeds", "1", "--out", "demo", "--json"]
    told = json.loads(run([command, "demo", *small], cwd=work))
    if not told["rows"] or not (work / told["report"]).is_file() or not (work / told["page"]).is_file():
        raise SystemExit("The demo wrote no report.")
    print(f"The demo ran from {found['file']}: {len(told['rows'])} methods, {told['seconds']['all']:.0f} s")
    print(f"Pair kernel: {found['kernel']}")


def run(command: Sequence[str], *, cwd: Path) -> str:
    """Standard output of a command in an environment that knows nothing of the repository."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "UMECACHE_HOME", "VIRTUAL_ENV")
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    environ |= {"UMECACHE_HOME": str(cwd / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=cwd, env=environ, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _size(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
