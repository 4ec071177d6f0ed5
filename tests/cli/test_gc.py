"""`umecache store gc` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.stores.toy import Toy, write
from umecache.cli.app import run


def test_dry_first(private_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, gone = private_home / "stores/vqa/kept/val", private_home / "stores/vqa/gone/val"
    fingerprint = write(kept, Toy.make())["fingerprint"]
    write(gone, Toy.make(seed=1))
    (private_home / "runs/r").mkdir(parents=True)
    (private_home / "runs/r/run.json").write_text(json.dumps({"fingerprint": fingerprint}))
    assert run(["store", "gc"]) == 0
    assert "nothing: 0 B to free" in capsys.readouterr().out
    assert run(["store", "gc", "--older", "0"]) == 0
    text = capsys.readouterr().out
    assert f"{gone}  unused" in text
    assert "can go" in text
    assert "--delete" in text
    assert gone.exists()
    assert run(["store", "gc", "--older", "0", "--only", "damaged", "--delete", "--verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == []
    assert run(["store", "gc", "--older", "0", "--delete", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (row,) = document["findings"]
    assert (row["path"], row["deleted"], document["bytes"]) == (str(gone), True, row["bytes"])
    assert kept.exists()
    assert not gone.exists()
    assert run(["store", "gc", "nowhere"]) == 2
    assert run(["store", "gc", "--only", "stores"]) == 2
