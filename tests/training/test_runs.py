"""Run folders: they appear whole, never in another's place, and load again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from umecache.errors import DataError, UsageError
from umecache.training.runs import load_run, new_folder, versions


def make(out: str | None, default: Path, *, overwrite: bool = False, mark: str = "run.json") -> Path:
    with new_folder(out, default, overwrite=overwrite) as folder:
        (folder.building / mark).write_text("{}")
        assert overwrite or not (folder.path / mark).exists()
    return folder.path


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    path = make(None, tmp_path / "runs" / "ume-1")
    assert path == tmp_path / "runs" / "ume-1"
    assert [p.name for p in path.parent.iterdir()] == ["ume-1"]
    assert [p.name for p in path.iterdir()] == ["run.json"]


def test_a_taken_name_gets_a_counter(tmp_path: Path) -> None:
    names = [make(None, tmp_path / "ume-1").name for _ in range(3)]
    assert names == ["ume-1", "ume-1-2", "ume-1-3"]


def test_two_runs_at_once_don_t_meet(tmp_path: Path) -> None:
    with (
        new_folder(None, tmp_path / "ume-1", overwrite=False) as one,
        new_folder(None, tmp_path / "ume-1", overwrite=False) as other,
    ):
        assert one.path != other.path and one.building != other.building


def test_an_existing_run_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    out = tmp_path / "run"
    make(str(out), tmp_path)
    (out / "old").touch()
    with pytest.raises(UsageError, match="holds a run already"):
        make(str(out), tmp_path)
    assert (out / "old").exists()
    make(str(out), tmp_path, overwrite=True)
    assert not (out / "old").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_failed_replacement_leaves_the_old_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    make(str(out), tmp_path)
    with pytest.raises(ZeroDivisionError), new_folder(str(out), tmp_path, overwrite=True):
        raise ZeroDivisionError
    assert (out / "run.json").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_failed_run_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_folder(None, tmp_path / "a" / "ume", overwrite=False):
        raise ZeroDivisionError
    assert list((tmp_path / "a").iterdir()) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_never_touched(tmp_path: Path, overwrite: bool) -> None:
    out = tmp_path / "photos"
    out.mkdir()
    (out / "holiday.jpg").touch()
    with pytest.raises(UsageError, match="other files"):
        make(str(out), tmp_path, overwrite=overwrite)
    assert [p.name for p in out.iterdir()] == ["holiday.jpg"]


def test_an_empty_folder_is_welcome(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    assert make(str(out), tmp_path) == out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_can_t_be_made_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="can't be made"):
        make(str(tmp_path / "run"), tmp_path)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="can't be made"):
        make(str(tmp_path / "file" / "run"), tmp_path)


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
