"""benchmarks/order.py: the same runs in several orders, on the sample."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from umecache.data.sample import write_sample
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.extract import extract

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "order.py"


def test_runs_of_equal_seeds_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "sample"
    write_sample(data, images=100, seed=0)
    models = (ModelRequest(name="sample-text"), ModelRequest(name="sample-image"))
    summaries = extract(ExtractConfig(models=models, data=str(data), device="cpu"))
    stores = {summary.modality: str(Path(summary.path).parent) for summary in summaries}
    spec = importlib.util.spec_from_file_location("benchmarks_order", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    out = tmp_path / "out.json"
    options = ["--data", str(data), "--text", stores["text"], "--image", stores["image"], "--json", str(out)]
    runs = ["--methods", "product", "--cuts", "1,20", "--orders", "2", "--seeds", "1", "--epochs", "1"]
    monkeypatch.setattr("sys.argv", ["order.py", *options, *runs])
    bench.main()
    document = json.loads(out.read_text())
    rows = {row["order"]: row for row in document["rows"]}
    assert rows["full"]["difference"] == 0
    assert rows["1 windows"]["images_of_a_window"] == document["images"]
    assert rows["20 windows"]["images_of_a_window"] < 5
    assert rows["20 windows"]["standard_error"] >= 0
