"""Run folders in the making: they appear whole or not at all, never in another's place, and can be gone on with.

    with new_folder(out, default, overwrite=False, job=facts) as folder:
        folder.checkpoints         # what a stopped run goes on from
        folder.building            # files go here; it becomes folder.path in one step

While a run is made, `.NAME.unfinished` lies beside its place:

    job.json         the facts that decide the result; they tell whether a command may go on from here
    *.safetensors    checkpoints
    run/             the files to be
    old/             the run that is replaced, for a moment

A run that was killed is gone on with by the same command (and `--out`), and so is one that failed where it has
checkpoints. It is finished in one step: `job.json` moves into `run/`. Whoever finds it there puts the folder in place
and removes the rest, be it the process that made it or the next one that looks.
"""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umecache.errors import JobFailed, Stopped, UmecacheError, UsageError
from umecache.stores import diff_facts
from umecache.training.checkpoint import BUILDING, SUFFIX
from umecache.training.locks import Taken, lock

MARKS = ("run.json", "compare.json", "sweep.json")  # what tells a folder of ours from any other
JOB = "job.json"
_RUN, _OLD = "run", "old"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SHOWN = 3  # differences named in an error


@dataclass(frozen=True, slots=True)
class NewFolder:
    """A folder in the making.

    Attributes:
        building: files go here.
        path: what it becomes.
        checkpoints: a folder that goes when the run is there.
    """

    building: Path
    path: Path
    checkpoints: Path | None = None


@contextlib.contextmanager
def new_folder(
    out: str | None, default: Path, *, overwrite: bool, update: bool = False, job: Mapping[str, Any] | None = None
) -> Iterator[NewFolder]:
    """Make a run folder.

    Args:
        out: where it is wanted; None: `default`, with a counter behind it where that name is taken.
        default: a path whose last part ends in the time.
        overwrite: an `out` that holds a run is replaced at the end; an unfinished one of other settings is dropped.
        update: likewise, but one that is unfinished is refused.
        job: JSON facts that decide the result; an unfinished run of the same job is gone on with.

    Raises:
        UsageError: `out` is taken, can't be made, or holds an unfinished run of another job.
        Stopped: the run was stopped, and what it has is kept.
        JobFailed: the disk is full.
    """
    if out is not None:
        _recover(Path(out).absolute())
    path = _claim(Path(out), overwrite or update) if out is not None else _claim_free(default)
    work = _work_of(path)
    work.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(work / "lock"))
        except Taken:
            raise UsageError(f"Another process is making {path}.", next="--out NEW_DIR") from None
        _check_job(work, path, dict(job or {}), overwrite)
        folder = NewFolder(work / _RUN, path, work)
        shutil.rmtree(folder.building, ignore_errors=True)  # of a process that was killed while it wrote
        for pattern in ("process-*.lock", f".*{BUILDING}"):  # of an earlier start: nobody holds or writes them
            for each in work.glob(pattern):
                each.unlink(missing_ok=True)
        try:
            folder.building.mkdir()
            yield folder
            (work / JOB).rename(folder.building / JOB)
            _put_in_place(work, path)
        except BaseException as error:
            kept = any(work.glob(f"*{SUFFIX}")) or _is_finished(work)
            if not kept:
                _clear(work, path)
            told = _told(error, path if kept else None)
            if told is error:
                raise
            raise told from error


def finished(path: Path, job: Mapping[str, Any]) -> bool:
    """Whether the run of this very job lies at `path`, whole; one that was killed in its last steps is put there."""
    path = path.absolute()
    _recover(path)
    try:
        found = json.loads((path / JOB).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return bool(found == json.loads(json.dumps(job)))


def stamp() -> str:
    """The time, as run folders are named by."""
    return time.strftime("%Y%m%d-%H%M%S")


def _work_of(path: Path) -> Path:
    return path.parent / f".{path.name}.unfinished"


def _is_finished(work: Path) -> bool:
    return (work / _RUN / JOB).is_file()


def _put_in_place(work: Path, path: Path) -> None:
    """Of a finished run. It may be killed anywhere in here and called again."""
    if path.is_dir() and any(path.iterdir()):
        path.rename(work / _OLD)
    (work / _RUN).rename(path)  # or it takes the place of the empty folder that claimed the name
    shutil.rmtree(work)


def _recover(path: Path) -> None:
    """End what a process that was killed had all but done."""
    work = _work_of(path)
    if not work.is_dir():
        return
    with contextlib.suppress(Taken), lock(work / "lock"):
        if _is_finished(work):
            if not _holds_other_files(path):
                _put_in_place(work, path)
        elif not (work / JOB).exists() and any(each.name != "lock" for each in work.iterdir()):
            shutil.rmtree(work)  # the run is in place; this was being removed


def _told(error: BaseException, path: Path | None = None) -> BaseException:
    """The error, as it is said: whether anything is kept, and how to go on with the run at `path`."""
    again = "" if path is None else f"the same command with --out {path} goes on"
    if isinstance(error, OSError) and error.errno in _FULL:
        error = JobFailed(f"A file can't be written: {error.strerror}.", next=again)
    if path is None:
        return error
    if isinstance(error, KeyboardInterrupt | Stopped):
        what = error.what if isinstance(error, Stopped) else "Stopped."
        return Stopped(what, why="The last checkpoint is kept.", next=again)
    if isinstance(error, UmecacheError):
        return error.with_more(f"What was trained is kept: {again}.")
    error.add_note(f"What was trained is kept: {again}.")
    return error


def _clear(work: Path, path: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.rmdir()  # only if it is still the empty folder that claimed the name


def _check_job(work: Path, path: Path, job: dict[str, Any], overwrite: bool) -> None:
    """Whether what an earlier process left is of this job; if there is nothing, say whose it will be."""
    job = json.loads(json.dumps(job))
    file = work / JOB
    with contextlib.suppress(FileNotFoundError, ValueError):  # ValueError: killed while it was written
        found = json.loads(file.read_text("utf-8"))
        if found == job:
            return
        if not overwrite and any(work.glob(f"*{SUFFIX}")):
            lines = diff_facts(found, job)
            more = f"; {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
            raise UsageError(
                f"{path} holds an unfinished run of another job.",
                why="Kept and asked now: " + "; ".join(lines[:_SHOWN]) + more + ".",
                next="the old command to go on, --overwrite to start anew, or --out NEW_DIR",
            )
    for checkpoint in work.glob(f"*{SUFFIX}"):
        checkpoint.unlink()
    file.write_text(json.dumps(job, indent=2) + "\n", "utf-8")


def _claim(path: Path, overwrite: bool) -> Path:
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(exist_ok=True)
        taken = any(path.iterdir())
    except OSError as error:
        raise UsageError(f"--out {path} can't be made.", why=error.strerror or type(error).__name__) from error
    if taken and _holds_other_files(path):
        raise UsageError(f"--out {path} holds other files.", why="Nothing of theirs is touched.", next="--out NEW_DIR")
    if taken and not overwrite:
        raise UsageError(
            f"--out {path} holds a run already.",
            next="--out NEW_DIR, --overwrite to replace it, or (compare) --update to train what it lacks",
        )
    return path


def _holds_other_files(path: Path) -> bool:
    """Files, and none that tells a run of ours."""
    return path.exists() and any(path.iterdir()) and not any((path / mark).is_file() for mark in MARKS)


def _claim_free(default: Path) -> Path:
    default.parent.mkdir(parents=True, exist_ok=True)
    for count in range(1, 10_000):
        path = default if count == 1 else default.with_name(f"{default.name}-{count}")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise UsageError(f"{default.parent} has no free name left.", next="--out DIR")
