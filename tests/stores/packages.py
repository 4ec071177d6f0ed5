"""Packages as pip lays them out: a module, and beside it the folder that says what it offers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, module: str, source: str, offers: Mapping[str, Mapping[str, str]]) -> None:
    """Put a distribution into a folder that is on `sys.path`.

    Args:
        offers: group -> name -> "module:object".
    """
    site.mkdir(exist_ok=True)
    (site / f"{module}.py").write_text(source)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n")
    lines = [
        line for group, names in offers.items() for line in (f"[{group}]", *(f"{n} = {at}" for n, at in names.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
