"""docs/sharing.md: what tests/docs cannot run, reading from afar, from a server on this machine."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

from tests.sharing.site import Site
from umecache.cli.app import run

PAGE = Path(__file__).parents[2] / "docs/sharing.md"


def test_training_from_afar(sample_run: SimpleNamespace, tmp_path: Path) -> None:
    """The page's `fuse`, with the sample in the place of its data and a web server in that of its bucket."""
    (line,) = re.findall(r"^umecache (fuse .*)$", PAGE.read_text(encoding="utf-8"), re.M)
    stores = sample_run.stores
    with Site(stores["image"].parent) as site:
        line = line.replace("minilm", str(stores["text"])).replace("s3://bucket/vit-1a2b3c4d", f"{site.url}/image")
        words = [*shlex.split(line, comments=True), "--data", str(sample_run.data), "--method", "concat"]
        assert run([*words, "--epochs", "1", "--width", "8", "--out", str(tmp_path / "run")]) == 0
        assert any("/tokens/" in name for name in site.fetched())
