"""The commands as functions: what they give is what the commands and the parts give; nothing is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import umecache
from umecache.api.results import FuseResult
from umecache.errors import UnknownName
from umecache.stores import Store, open_store

TINY: dict[str, Any] = {"width": 8, "epochs": 1, "devices": "cpu"}


@pytest.fixture
def small(sample_run: SimpleNamespace) -> dict[str, Any]:
    return {
        **TINY,
        "data": sample_run.data,
        "text": open_store(sample_run.stores["text"] / "val"),
        "image": sample_run.stores["image"],
    }


def test_extract(sample_run: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings: dict[str, Any] = {"data": sample_run.data, "store": tmp_path / "text", "devices": "cpu", "workers": 1}
    made = umecache.extract("sample-text", **settings)
    assert [each.split for each in made] == ["train", "val"]
    before = open_store(sample_run.stores["text"] / "val")
    assert made[1].fingerprint == before.fingerprint
    assert [each.encoded for each in umecache.extract("sample-text", **settings)] == [0, 0], "made once"
    # What extract gives can be said to fuse.
    run = umecache.fuse(method="text-only", text=made[0], data=sample_run.data, out=tmp_path / "run", **TINY)
    assert run.rows[0].text == "sample-text"
    assert capsys.readouterr() == ("", "")


def test_fuse_gives_what_the_command_gives(
    small: dict[str, Any], sample_run: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = umecache.fuse(method="concat", seeds=2, out=tmp_path / "api", **small)
    assert isinstance(run, FuseResult)
    assert capsys.readouterr() == ("", "")
    from umecache.cli.app import run as command

    stores = [f"--{name}={sample_run.stores[name]}" for name in ("text", "image")]
    argv = ["fuse", "--method=concat", "--seeds=2", "--width=8", "--epochs=1", "--devices=cpu", *stores]
    assert command([*argv, f"--data={sample_run.data}", f"--out={tmp_path / 'cli'}", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (run.accuracy, run.std) == (document["accuracy"]["overall"], document["std"])
    assert [each.accuracy for each in run.rows[0].seeds] == [each["overall"] for each in document["seeds"]]
    assert run.path == tmp_path / "api"
    assert umecache.load_run(run.path, seed=1).facts["method"] == "concat"


def test_fuse_with_several_rates(small: dict[str, Any], tmp_path: Path) -> None:
    run = umecache.fuse(method="text-only", lr=(1e-3, 1e-2), out=tmp_path / "run", **small)
    assert [row.lr for row in run.rows] == [1e-3, 1e-2]
    assert all(umecache.load_run(row.path).facts["lr"] == row.lr for row in run.rows)


def test_compare_writes_its_report(small: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = umecache.compare(
        methods=("text-only", "concat"), seeds=(3,), out=tmp_path / "t", baseline="concat", **small
    )
    assert [(row.method, row.seeds[0].seed) for row in table.rows] == [("text-only", 3), ("concat", 3)]
    assert table.report.read_text(encoding="utf-8").startswith("<!")
    assert table.document == json.loads((table.path / "compare.json").read_text())
    assert any("seeds" in line for line in table.warnings)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(UnknownName, match="Did you mean 'concat'"):
        umecache.compare(methods=("text-only", "concat"), baseline="conct", **small)


def test_predict_as_the_run_answers(sample_run: SimpleNamespace, tmp_path: Path) -> None:
    split = umecache.open_dataset(sample_run.data).split("val")
    question = split.questions[0]
    image = split.image_path(question.image_id)
    assert image is not None
    asked: dict[str, Any] = {"image": image, "devices": "cpu", "seed": 1}
    guesses = umecache.predict(sample_run.path, question.text, top=2, **asked)
    found = umecache.predict_split(sample_run.path, "val", seed=1, out=tmp_path / "val.json", devices="cpu")
    assert (len(guesses), guesses[0].answer) == (2, found.answers[question.id])
    assert {each["question_id"]: each["answer"] for each in json.loads(found.results.read_text())} == found.answers
    run = umecache.load_run(sample_run.path, seed=1)
    assert umecache.predict(run, question.text, image=image, top=1)[0] == guesses[0]
    assert found.accuracy == run.facts["accuracy"]["overall"]


def test_names_at_the_front_door() -> None:
    offered = {"open_store", "extract", "fuse", "compare", "predict", "load_run", "Fusion", "Encoder", "UmecacheError"}
    assert offered <= set(dir(umecache)) & set(umecache.__all__)
    for name in umecache.__all__:
        found = getattr(umecache, name)
        assert found.__doc__ and found.__name__ == name
    assert umecache.Store is Store
    with pytest.raises(AttributeError, match="no attribute 'fusse'"):
        _ = umecache.fusse


def test_type_checkers_see_the_names(tmp_path: Path) -> None:
    """Every lazy name is imported for type checkers too, from the same place."""
    source = Path(umecache.__file__).read_text(encoding="utf-8")
    for name, home in umecache._HOMES.items():
        assert f"from {home} import {name} as {name}\n" in source


def test_opening_a_store_needs_numpy_only(sample_run: SimpleNamespace) -> None:
    code = f"""
import sys, umecache
assert not {{"numpy", "torch", "zarr"}} & set(sys.modules)
store = umecache.open_store({str(sample_run.stores["text"] / "val")!r})
store[store.ids[0]]
assert not {{"torch", "zarr", "h5py", "transformers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
