"""docs/sharing.md: its commands do what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.sharing.site import Site
from tests.stores.toy import Toy, write
from umecache.cli.app import run

PAGE = Path(__file__).parents[2] / "docs/sharing.md"


def test_every_command(private_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy.make()
    write(private_home / "stores/vqa-v2/vit-1a2b3c4d/val", toy)
    monkeypatch.chdir(tmp_path)
    Path("ids.txt").write_text("\n".join(map(str, toy.ids[:3])))
    Path("regions").mkdir()
    np.save("regions/image_7.npy", np.ones((2, 4), np.float32))
    commands = re.findall(r"^umecache (store .*)$", PAGE.read_text(encoding="utf-8"), re.M)
    assert len(commands) == 8
    for line in commands:
        words = shlex.split(line.replace("/lab/out", str(tmp_path / "out")), comments=True)
        assert run(words) == 0, line
    assert {"few", "out", "updn"} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "out/vit/README.md").is_file()
    assert not (tmp_path / "copy").exists()


def test_training_from_afar(sample_run: SimpleNamespace, tmp_path: Path) -> None:
    """The page's `fuse`, with the sample in the place of its data and a web server in that of its bucket."""
    (line,) = re.findall(r"^umecache (fuse .*)$", PAGE.read_text(encoding="utf-8"), re.M)
    stores = sample_run.stores
    with Site(stores["image"].parent) as site:
        line = line.replace("minilm", str(stores["text"])).replace("s3://bucket/vit-1a2b3c4d", f"{site.url}/image")
        words = [*shlex.split(line, comments=True), "--data", str(sample_run.data), "--method", "concat"]
        assert run([*words, "--epochs", "1", "--width", "8", "--out", str(tmp_path / "run")]) == 0
        assert any("/tokens/" in name for name in site.fetched())
