"""Who uses a store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.stores.toy import Toy
from umecache.sharing.usage import readers, runs_by_fingerprint
from umecache.stores import open_store


def test_runs_by_what_they_were_trained_on(tmp_path: Path) -> None:
    for name, text in {
        "a/one": json.dumps({"sources": [{"stores": {"val": {"fingerprint": "f1"}, "train": {"fingerprint": "f2"}}}]}),
        "a/one/seed-0": json.dumps({"fingerprint": "f1"}),
        "b": json.dumps({"fingerprint": "f1"}),
        "broken": "{",
    }.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text(text)
    found = runs_by_fingerprint([tmp_path, tmp_path / "nowhere"])
    assert found == {"f1": [tmp_path / "a/one", tmp_path / "b"], "f2": [tmp_path / "a/one"]}


def test_processes_that_read_it(store: Path, toy: Toy) -> None:
    assert readers(store) == []
    opened = open_store(store)
    assert opened[toy.ids[0]].size
    assert os.getpid() in readers(store)
    assert readers(store.parent / "va") == []
    script = f"import time; f = open({str(store / 'manifest.json')!r}); print('open', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert other.pid in readers(store)
        other.kill()
