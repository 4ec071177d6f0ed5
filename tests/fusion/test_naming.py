"""Names of features."""

from __future__ import annotations

import subprocess
import sys

from umecache.fusion.naming import MARK, modality_of


def test_modalities() -> None:
    assert (modality_of(f"text{MARK}-1"), modality_of("text")) == ("text", "text")


def test_names_load_no_torch() -> None:
    code = "import sys, umecache.fusion.naming; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
