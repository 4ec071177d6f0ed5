"""Run folders appear whole, never in another's place, and what a stopped one had is gone on with."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from umecache.errors import DataError, JobFailed, Stopped, UsageError
from umecache.training.folders import finished, new_folder

JOB: dict[str, Any] = {"asked": {"lr": 0.001, "seeds": (0, 1)}}


def make(out: str | None, default: Path, *, overwrite: bool = False, mark: str = "run.json") -> Path:
    with new_folder(out, default, overwrite=overwrite) as folder:
        (folder.building / mark).write_text("{}")
        assert overwrite or not (folder.path / mark).exists()
    return folder.path


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    path = make(None, tmp_path / "runs" / "ume-1")
    assert path == tmp_path / "runs" / "ume-1"
    assert [p.name for p in path.parent.iterdir()] == ["ume-1"]
    assert sorted(p.name for p in path.iterdir()) == ["job.json", "run.json"]


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


def stop(out: Path, error: BaseException, *, job: dict[str, Any] = JOB, overwrite: bool = False) -> None:
    """A run that is stopped after its first checkpoint."""
    with new_folder(str(out), out, overwrite=overwrite, job=job) as folder:
        assert folder.checkpoints is not None
        (folder.checkpoints / "heads.safetensors").write_text("state")
        (folder.building / "half").touch()
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Stopped("Stopped by SIGTERM.")])
def test_a_stopped_run_is_gone_on_with(tmp_path: Path, error: BaseException) -> None:
    out = tmp_path / "run"
    with pytest.raises(Stopped, match=r"--out .*/run goes on"):
        stop(out, error)
    with new_folder(str(out), tmp_path, overwrite=False, job=JOB) as folder:
        assert folder.checkpoints is not None
        assert (folder.checkpoints / "heads.safetensors").read_text() == "state"
        assert list(folder.building.iterdir()) == []
        (folder.building / "run.json").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert sorted(p.name for p in out.iterdir()) == ["job.json", "run.json"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DataError("A store is gone.", why="It was there.", next="umecache extract"), DataError),
        (OSError(errno.ENOSPC, "No space left on device"), JobFailed),
        (ZeroDivisionError("a bug"), ZeroDivisionError),
    ],
)
def test_a_failed_run_keeps_its_checkpoint_and_says_how_to_go_on(
    tmp_path: Path, error: Exception, kind: type[Exception]
) -> None:
    out = tmp_path / "run"
    with pytest.raises(kind) as failed:
        stop(out, error)
    said = " ".join([str(failed.value), *getattr(failed.value, "__notes__", ())])
    assert f"the same command with --out {out} goes on" in said
    with new_folder(str(out), tmp_path, overwrite=False, job=JOB) as folder:
        assert folder.checkpoints is not None
        assert (folder.checkpoints / "heads.safetensors").read_text() == "state"
        (folder.building / "run.json").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


class Killed(BaseException):
    """Stands for a kill: nothing that the process would still do is done."""


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("replaced", [False, True])
def test_a_run_that_is_killed_while_it_is_put_in_place_is_there_at_the_next_look(
    tmp_path: Path, step: int, replaced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    if replaced:
        with new_folder(str(out), tmp_path, overwrite=False, job={"lr": 1}) as folder:
            (folder.building / "run.json").write_text("old")
    done = 0

    def dying(plain: Any) -> Any:
        def act(*args: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            if done > step:
                raise Killed
            return plain(*args, **named)

        return act

    with (
        monkeypatch.context() as patched,
        contextlib.suppress(Killed),
        new_folder(str(out), tmp_path, overwrite=True, job=JOB) as folder,
    ):
        assert folder.checkpoints is not None
        (folder.checkpoints / "heads.safetensors").write_text("state")
        (folder.building / "run.json").write_text("new")
        for module, name in ((Path, "rename"), (shutil, "rmtree")):
            patched.setattr(module, name, dying(getattr(module, name)))
    made = finished(out, JOB)
    assert made == (step > 0)  # with its first step, the move of job.json, it is finished
    if made:
        assert (out / "run.json").read_text() == "new"
        assert [p.name for p in tmp_path.iterdir()] == ["run"]
    elif replaced:
        assert (out / "run.json").read_text() == "old"
        assert finished(out, {"lr": 1})
    with new_folder(str(out), tmp_path, overwrite=True, job={"lr": 2}) as folder:
        (folder.building / "run.json").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_files_of_others_that_came_meanwhile_are_not_touched(tmp_path: Path) -> None:
    out, work = tmp_path / "run", tmp_path / ".run.unfinished"
    (work / "run").mkdir(parents=True)
    (work / "run" / "job.json").write_text("{}")
    out.mkdir()
    (out / "holiday.jpg").touch()
    assert not finished(out, {})
    assert (out / "holiday.jpg").exists() and (work / "run" / "job.json").exists()


def test_an_unfinished_run_of_another_job_is_not_touched_unless_asked(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(Stopped):
        stop(out, KeyboardInterrupt())
    other = {"asked": {"lr": 0.1, "seeds": (0, 1)}}
    with (
        pytest.raises(UsageError, match=r"asked.lr: 0.001 in the first, 0.1 in the second"),
        new_folder(str(out), tmp_path, overwrite=False, job=other),
    ):
        pass
    with new_folder(str(out), tmp_path, overwrite=True, job=other) as folder:
        assert folder.checkpoints is not None and not list(folder.checkpoints.glob("*.safetensors"))
        (folder.building / "run.json").touch()


def test_an_overwriting_run_that_is_stopped_leaves_the_old_one_readable(tmp_path: Path) -> None:
    out = tmp_path / "run"
    make(str(out), tmp_path)
    with pytest.raises(Stopped):
        stop(out, KeyboardInterrupt(), overwrite=True)
    assert (out / "run.json").exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    with (
        new_folder(out, tmp_path, overwrite=False),
        pytest.raises(UsageError, match="Another process"),
        new_folder(out, tmp_path, overwrite=False),
    ):
        pass
