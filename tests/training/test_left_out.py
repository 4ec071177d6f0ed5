"""One head that can't be trained costs its own row, and no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from umecache.errors import JobFailed
from umecache.training.compare import compare
from umecache.training.config import CompareConfig, FuseConfig
from umecache.training.fuse import fuse
from umecache.training.runs import load_run

TOO_HIGH = 10.0  # with this decay each step makes weights 99 times larger
QUICK: dict[str, Any] = {"width": 8, "batch_size": 16, "epochs": 8, "clip": 0.0, "weight_decay": 10.0}


def config(world: Any, out: Path, **said: Any) -> CompareConfig:
    stores = {"text": (str(world.text),), "image": (str(world.image),)}
    return CompareConfig(data=str(world.data), out=str(out), **{**QUICK, **stores, **said})


def test_a_rate_that_is_too_high_costs_its_own_row(world: Any, tmp_path: Path) -> None:
    asked = config(world, tmp_path / "c", methods=("concat", "product"), seeds=(0, 1), lr=(1e-3, TOO_HIGH))
    done = compare(asked).document
    assert [(row["method"], row["lr"], len(row["seeds"])) for row in done["rows"]] == [
        ("concat", 1e-3, 2), ("product", 1e-3, 2),
    ]  # fmt: skip
    assert [(each["method"], each["lr"], each["encoders"]) for each in done["failed"]] == [
        ("concat", TOO_HIGH, ["bert", "vit"]), ("product", TOO_HIGH, ["bert", "vit"]),
    ]  # fmt: skip
    assert any(line.startswith("No row for concat on bert + vit at rate 10") for line in done["warnings"])
    assert "no longer finite" in (tmp_path / "c" / "report.md").read_text()
    alone = compare(config(world, tmp_path / "d", methods=("concat",), seeds=(0, 1), lr=1e-3)).document
    assert [seed["overall"] for seed in done["rows"][0]["seeds"]] == [
        seed["overall"] for seed in alone["rows"][0]["seeds"]
    ]
    json.dumps(done, allow_nan=False)


def test_nothing_that_could_be_trained_is_a_failed_job(world: Any, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="no longer finite"):
        compare(config(world, tmp_path / "c", methods=("concat",), seeds=(0,), lr=TOO_HIGH))


def test_a_sweep_of_fuse_keeps_the_rates_that_train(world: Any, tmp_path: Path) -> None:
    said = {**QUICK, "data": str(world.data), "text": str(world.text), "image": str(world.image), "method": "concat"}
    done = fuse(FuseConfig(**said, seeds=(0,), lr=(1e-3, TOO_HIGH), out=str(tmp_path / "f"))).document
    assert [row["lr"] for row in done["rows"]] == [1e-3] and [each["lr"] for each in done["failed"]] == [TOO_HIGH]
    assert load_run(done["rows"][0]["run"]).facts["lr"] == 1e-3
    with pytest.raises(JobFailed, match="no longer finite"):
        fuse(FuseConfig(**said, seeds=(0, 1), lr=TOO_HIGH, out=str(tmp_path / "g")))
