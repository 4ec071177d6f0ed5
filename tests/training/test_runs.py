"""Run folders are read as strictly as they are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from umecache.errors import DataError, UsageError
from umecache.training.runs import load_run, versions


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run folder"):
        load_run(tmp_path)
    for text in ("{", "[]", '{"format": 99, "seeds": [1]}', '{"format": 1, "seeds": []}'):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(DataError, match=r"run\.json can't be read"):
            load_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "seeds": [{"seed": 0}]}))
    with pytest.raises(DataError, match="can't be loaded"):
        load_run(tmp_path)


def test_versions_are_told() -> None:
    told = versions()
    assert {"python", "torch", "numpy", "machine"} <= set(told)
