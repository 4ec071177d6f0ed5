"""`umecache store import` as a user types it; what it makes can be fused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from umecache.cli.app import run


def test_import_and_fuse(tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = tmp_path / "updn"
    for split, images in (("train", range(6)), ("val", range(100, 103))):
        folder = tmp_path / "in" / split
        folder.mkdir(parents=True)
        for n in images:
            np.save(folder / f"image_{n:06d}.npy", np.random.default_rng(n).normal(size=(3, 5)).astype(np.float32))
        argv = [str(folder), "--store", str(stores / split), "--model", "updn", "--modality", "image"]
        assert run(["store", "import", *argv, "--split", split, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["records"], document["dim"], document["origin"]) == (len(images), 5, {"imported": True})
    assert run(["store", "import", *argv, "--split", "val"]) == 0
    assert "Next: umecache fuse --image" in capsys.readouterr().out
    assert run(["store", "import", *argv[:-1], "sound"]) == 2
    capsys.readouterr()
    options = [
        "--method",
        "concat",
        "--epochs",
        "1",
        "--width",
        "4",
        "--devices",
        "cpu",
        "--out",
        str(tmp_path / "run"),
    ]
    assert run(["fuse", *tiny, "--image", str(stores), *options, "--json"]) == 0, capsys.readouterr().out
