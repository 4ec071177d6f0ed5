"""`umecache models`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from umecache.cli.models import models
from umecache.encoders.models import MODELS


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    models(json=True)
    document = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in document["models"]] == list(MODELS)
    bert = next(entry for entry in document["models"] if entry["name"] == "bert")
    assert bert["dim"] == 768
    assert bert["modality"] == "text"
    assert {"tokens", "licence", "citation", "repo", "revision"} < set(bert)


def test_words(capsys: pytest.CaptureFixture[str]) -> None:
    models(json=False)
    out = capsys.readouterr().out
    for entry in MODELS.values():
        assert entry.name in out
    assert "[CLS], WordPiece, [SEP]" in out, "brackets are no markup"
    assert "hf:ORG/NAME" in out


def test_loads_no_torch() -> None:
    code = "import sys; from umecache.cli.models import models; models(json=True); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_one_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    models(names=["vit"], json=False)
    out = capsys.readouterr().out
    assert "vit_base_patch16_384" in out
    assert "Text encoders" not in out
