"""The Triton kernel: in the interpreter here, on the card where there is one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from umecache.errors import UsageError
from umecache.fusion.pairs import implementation

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def check(device: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fusion.triton_checks", device],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cases"] >= 5
    assert found["worst"]["float32"] < 2e-5
    assert found["worst"]["bfloat16"] < 1e-2


@needs_triton
def test_equals_the_tiled_path_in_the_interpreter() -> None:
    check("cpu", TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
def test_equals_the_tiled_path_on_the_card() -> None:
    check("cuda")


def test_opt_in_and_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert implementation(CPU, torch.float32)[0] != "triton"
    with pytest.raises(UsageError, match="The Triton kernel can't run here"):
        implementation(CPU, torch.float32, "triton")
    monkeypatch.setenv("UMECACHE_PAIRS", "triton")
    with pytest.raises(UsageError, match=r"float64|NVIDIA|installed"):
        implementation(CPU, torch.float64)
