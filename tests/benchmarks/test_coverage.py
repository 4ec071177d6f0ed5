"""benchmarks/coverage.py: intervals cover the truth in simulated comparisons.

A few here; `UMECACHE_SLOW=1` runs the thousand.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_coverage", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_runs_and_writes_its_figures(bench: ModuleType, tmp_path: Path) -> None:
    bench.main(["--comparisons", "2", "--rounds", "20", "--beside", "--json", str(tmp_path / "out.json")])
    assert set(json.loads((tmp_path / "out.json").read_text())["coverage"]) == set(bench.CASES)


def test_the_truth_is_that_of_a_large_simulation(bench: ModuleType) -> None:
    import numpy as np

    case = bench.Case(images=4000, seeds=50)
    chance = bench.chances(np.random.default_rng(0), case)
    assert bench.truth(case)[0] == pytest.approx(chance[1].mean(), abs=0.015)
    assert bench.truth(case)[1] == pytest.approx(0.065, abs=0.005)


@pytest.mark.parametrize(
    "name", ["seeds alike", "seeds differ much", "no difference", "12 images", "40 unequal images"]
)
def test_intervals_cover_the_truth(bench: ModuleType, name: str) -> None:
    slow = bool(os.environ.get("UMECACHE_SLOW"))
    found = bench.coverage(name, 1000 if slow else 200, 500 if slow else 200)
    # Two hundred can't tell 93 from 97 %, but would see the 76 % of resampled seeds and the 98 % of a t step alone.
    low, high = (0.93, 0.97) if slow else (0.89, 0.985)
    assert low <= found["difference"] <= high
    assert low <= found["accuracy"] <= high


def test_unequal_images_are_unequal(bench: ModuleType) -> None:
    import numpy as np

    _, images_Q = bench.simulate(np.random.default_rng(0), bench.CASES["40 unequal images"])
    sizes = np.bincount(images_Q)
    assert len(sizes) == 40 and (sizes == 40).sum() == 4 and sizes[1] < 6
