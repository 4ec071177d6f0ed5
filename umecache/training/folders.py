"""Run folders in the making: they appear whole or not at all, never in another's place, and can be gone on with.

    with new_folder(out, default, overwrite=False, job=facts) as folder:
        folder.checkpoints         # what a stopped run goes on from
        folder.building            # files go here; it becomes folder.path in one step

While a run is made, `.NAME.unfinished` lies beside its place and holds the checkpoints and the files to be. A run that
was killed is gone on with by the same command (and `--out`); it is recognised by its `job`, the facts that decide the
result. It ends with its last file: the folder is renamed into place, then the rest is removed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umecache.errors import Stopped, UsageError
from umecache.stores import diff_facts
from umecache.training.checkpoint import SUFFIX
from umecache.training.locks import Taken, lock

MARKS = ("run.json", "compare.json", "sweep.json")  # what tells a folder of ours from any other
JOB = "job.json"
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
    """
    path = _claim(Path(out), overwrite or update) if out is not None else _claim_free(default)
    work = path.parent / f".{path.name}.unfinished"
    work.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(work / "lock"))
        except Taken:
            raise UsageError(f"Another process is making {path}.", next="--out NEW_DIR") from None
        _check_job(work, path, dict(job or {}), overwrite)
        folder = NewFolder(work / "run", path, work)
        shutil.rmtree(folder.building, ignore_errors=True)  # of a process that was killed while it wrote
        for sign in work.glob("process-*.lock"):  # of an earlier start: nobody holds them
            sign.unlink()
        try:
            folder.building.mkdir()
            yield folder
            _put_in_place(folder)
        except (KeyboardInterrupt, Stopped) as error:
            if not any(work.glob(f"*{SUFFIX}")):
                _clear(work, path)
                raise
            what = error.what if isinstance(error, Stopped) else "Stopped."
            raise Stopped(
                what, why="The last checkpoint is kept.", next=f"the same command with --out {path} goes on"
            ) from error
        except BaseException:
            _clear(work, path)
            raise
        shutil.rmtree(work)


def stamp() -> str:
    """The time, as run folders are named by."""
    return time.strftime("%Y%m%d-%H%M%S")


def _put_in_place(folder: NewFolder) -> None:
    path = folder.path
    if any(path.iterdir()):
        old = folder.building.with_name("old")
        path.rename(old)
    folder.building.rename(path)  # or it takes the place of the empty folder that claimed the name


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
    if taken and not any((path / mark).is_file() for mark in MARKS):
        raise UsageError(f"--out {path} holds other files.", why="Nothing of theirs is touched.", next="--out NEW_DIR")
    if taken and not overwrite:
        raise UsageError(
            f"--out {path} holds a run already.",
            next="--out NEW_DIR, --overwrite to replace it, or (compare) --update to train what it lacks",
        )
    return path


def _claim_free(default: Path) -> Path:
    default.parent.mkdir(parents=True, exist_ok=True)
    for count in range(1, 10_000):
        path = default if count == 1 else default.with_name(f"{default.name}-{count}")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise UsageError(f"{default.parent} has no free name left.", next="--out DIR")
