"""The house itself: twins, links, imports, the speed of the front door."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for path in (ROOT / "umecache").rglob("[!_]*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_has_its_twin(module: Path) -> None:
    inside = module.relative_to(ROOT / "umecache")
    assert (ROOT / "tests" / inside.parent / f"test_{inside.name}").is_file()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an sdist has no links")
@pytest.mark.parametrize(("link", "target"), [("cli", "umecache/cli"), ("stores", "umecache/stores")])
def test_signposts_at_the_root(link: str, target: str) -> None:
    assert (ROOT / link).is_symlink()
    assert (ROOT / link).readlink() == Path(target)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_too_long_to_read_in_one_sitting(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= 500


HEAVY = {"torch", "transformers", "timm", "zarr", "h5py", "numpy", "matplotlib", "accelerate"}


def _imported(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize(
    "code",
    [
        "import umecache",
        "from umecache.cli.app import run; run(['--help'])",
        "from umecache.cli.app import run; run(['extract', '--help'])",
        "from umecache.cli.app import run; run(['models'])",
        "from umecache.cli.app import run; run(['methods'])",
    ],
)
def test_the_front_door_is_light(code: str) -> None:
    assert not _imported(code) & HEAVY


def test_stores_never_load_torch(tmp_path: Path) -> None:
    assert "torch" not in _imported("import umecache.stores; umecache.stores.open_store; import umecache.stores.reader")


def test_help_loads_little() -> None:
    # What the 0.3 s of `--help` are spent on; counted, since a loaded machine makes any time.
    script = "from umecache.cli.app import run; import sys; run(['--help']); print(len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) < 450
