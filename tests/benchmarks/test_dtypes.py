"""benchmarks/dtypes.py: the study of stored dtypes, on the sample."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from umecache.data.sample import write_sample
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.extract import extract

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "dtypes.py"


def test_runs_and_writes_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "sample"
    write_sample(data, images=100, seed=0)
    models = (ModelRequest(name="sample-text"), ModelRequest(name="sample-image"))
    summaries = extract(ExtractConfig(models=models, data=str(data), dtype="float32", device="cpu"))
    stores = {summary.modality: str(Path(summary.path).parent) for summary in summaries}
    spec = importlib.util.spec_from_file_location("benchmarks_dtypes", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    out = tmp_path / "out.json"
    options = ["--data", str(data), "--text", stores["text"], "--image", stores["image"], "--json", str(out)]
    monkeypatch.setattr("sys.argv", ["dtypes.py", *options, "--methods", "product", "--seeds", "1", "--epochs", "1"])
    bench.main()
    found = json.loads(out.read_text())["dtypes"]
    assert set(found) == {"float32", "float16", "bfloat16", "int8"}
    assert found["float32"]["flips"] == {"product": 0}
    errors = [found[dtype]["error"]["image"] for dtype in ("float32", "float16", "bfloat16")]
    assert errors[0] == 0 < errors[1] < errors[2] < 0.01
    assert 0 < found["int8"]["error"]["image"] < 0.02
    assert found["int8"]["bytes"]["image"] < found["float16"]["bytes"]["image"] < found["float32"]["bytes"]["image"]
