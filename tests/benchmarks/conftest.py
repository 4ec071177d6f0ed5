"""The built-in sample with stores of both its encoders, and benchmarks as modules."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from umecache.data.sample import write_sample
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.extract import extract

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def sample_options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """`--data`, `--text` and `--image` of the sample and its stores."""
    folder = tmp_path_factory.mktemp("benchmarks")
    data = write_sample(folder / "sample", images=100, seed=0)
    stores = {}
    for kind in ("text", "image"):
        stores[kind] = folder / kind
        request = ModelRequest(name=f"sample-{kind}")
        extract(ExtractConfig(models=(request,), data=str(data), store=stores[kind], device="cpu"))
    return ["--data", str(data), "--text", str(stores["text"]), "--image", str(stores["image"])]


@pytest.fixture
def script() -> Callable[[str], ModuleType]:
    """A benchmark by its name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
