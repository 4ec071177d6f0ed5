"""A training that was stopped, however and whenever, ends with the same bits as one that was not."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from umecache.errors import DataError, JobFailed, Stopped
from umecache.training import checkpoint
from umecache.training import head as heads
from umecache.training.checkpoint import Checkpoints, Keeper
from umecache.training.compare import compare
from umecache.training.config import CompareConfig, FuseConfig
from umecache.training.fuse import fuse
from umecache.training.head import Head, HeadSpec
from umecache.training.locks import Taken, lock

CPU = torch.device("cpu")
EVERY_STEP = 1e-9  # minutes


def config(world: Any, out: Path, **said: Any) -> CompareConfig:
    settings: dict[str, Any] = {
        "methods": ("concat", "ume"), "seeds": (0, 1), "width": 8, "batch_size": 40, "epochs": 2, "dropout": 0.3,
        "checkpoint_minutes": EVERY_STEP, "device": "cpu",
    }  # fmt: skip
    stores = {"text": (str(world.text),), "image": (str(world.image),)}
    return CompareConfig(data=str(world.data), out=str(out), **(settings | stores | said))


def files_of(out: Path) -> dict[str, bytes]:
    """What must be the same: weights, answers, history; the table without its times."""
    found = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.name in ("model.safetensors", "results_val.json", "history.csv")
    }
    rows = json.loads((out / "compare.json").read_text())["rows"]
    for row in rows:
        row.pop("seconds"), row.pop("run")
        for seed in row["seeds"]:
            seed.pop("results")
    found["rows"] = json.dumps(rows, sort_keys=True).encode()
    for path in sorted(out.rglob("seed-*/run.json")):
        found[f"facts {path.relative_to(out)}"] = json.dumps(json.loads(path.read_text())["facts"]).encode()
    return found


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "early stopping, averaged weights, two batches a step": {
        "patience": 1, "epochs": 4, "ema": 0.9, "accumulate": 2, "batch_size": 20, "holdout": 0.2,
    },
    "rates are chosen": {"lr": "auto", "lr_grid": (1e-3, 1e-2), "seeds": (0,), "holdout": 0.2},
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopped_at_every_few_steps_it_ends_the_same(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    monkeypatch.setattr(checkpoint, "COST", 0)
    said = VARIANTS[variant]
    compare(config(world, tmp_path / "through", **said))
    step, left = Head.step, [0]

    def counted(self: Head, *args: Any, **named: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        step(self, *args, **named)

    monkeypatch.setattr(Head, "step", counted)
    stops = 0
    for steps in range(9, 200, 4):  # four heads: at other heads and steps each time
        left[0] = steps
        try:
            compare(config(world, tmp_path / "stopped", **said))
            break
        except (Stopped, KeyboardInterrupt):
            stops += 1
    assert stops >= 2
    assert files_of(tmp_path / "stopped") == files_of(tmp_path / "through")
    assert {path.name for path in tmp_path.iterdir()} == {"stopped", "through"}


def test_killed_at_random_moments_it_ends_the_same(world: Any, tmp_path: Path) -> None:
    """Real processes, real SIGKILL. Each starts from a server that has torch loaded already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["umecache.training.compare"])
    out, moment, kills = tmp_path / "killed", random.Random(0), 0
    said: dict[str, Any] = {"methods": ("concat", "attention"), "seeds": (0,), "epochs": 30, "batch_size": 30}
    deadline = time.monotonic() + 120
    while not (out / "compare.json").exists():
        assert time.monotonic() < deadline
        child = context.Process(target=compare, args=(config(world, out, **said),))
        child.start()
        # Not before it has got on a little, or it would never end.
        seen, kept = time.monotonic(), state(out)
        while child.is_alive() and state(out) == kept and time.monotonic() < seen + 30:
            time.sleep(0.01)
        child.join(moment.uniform(0, 0.6) if kills < 3 else 60)
        if child.is_alive():
            child.kill()
            child.join()
            kills += 1
    assert kills >= 1
    compare(config(world, tmp_path / "through", **said))
    assert files_of(out) == files_of(tmp_path / "through")


def state(out: Path) -> int | None:
    """Changes with every checkpoint."""
    file = out.parent / f".{out.name}.unfinished" / "heads-0.safetensors"
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return None


def head(seed: int = 0) -> Head:
    settings = FuseConfig(width=4, epochs=2)
    return Head(
        HeadSpec(method="concat", seed=seed, lr=1e-3),
        settings,
        dims={"text": 3, "image": 3},
        classes=2,
        steps=8,
        device=CPU,
    )


def test_it_is_due_by_the_clock_and_by_what_it_costs(tmp_path: Path) -> None:
    now = [0.0]
    keeper = Keeper(tmp_path / "heads.safetensors", 10.0, clock=lambda: now[0])
    assert not keeper.due()
    now[0] = 10.0
    assert keeper.due()
    keeper.save([head()], 0, 64)
    assert not keeper.due()
    keeper._cost = 3.0  # seconds for the last one: the next after a minute
    now[0] = 25.0
    assert not keeper.due()
    now[0] = 71.0
    assert keeper.due()
    assert not Keeper(None, 0.0).due()


def test_a_short_pass_leaves_no_file(tmp_path: Path) -> None:
    keeper = Checkpoints(tmp_path, seconds=300).of("heads")
    keeper.finish([head()], 2, np.zeros((1, 3), np.int64))
    assert list(tmp_path.iterdir()) == [] and not keeper.finished


def test_a_long_pass_that_is_finished_is_kept(tmp_path: Path) -> None:
    now = [0.0]
    keeper = Keeper(tmp_path / "heads-3.safetensors", 300.0, clock=lambda: now[0])
    now[0] = 11.0  # far from the next checkpoint, but too much to do again
    keeper.finish([head()], 2, np.zeros((1, 3), np.int64))
    assert Checkpoints(tmp_path).of("heads-3").finished


def test_a_finished_pass_is_not_done_again(tmp_path: Path) -> None:
    keeper = Checkpoints(tmp_path, seconds=1e-9).of("heads")
    one = head()
    one.close()
    answers = np.array([[1, 0, 1]])
    keeper.finish([one], 2, answers)
    again, other = Checkpoints(tmp_path).of("heads"), head(1)
    assert again.finished and again.restore([other]) == (2, 0)
    assert np.array_equal(again.answers(), answers)  # type: ignore[arg-type]
    assert other.closed and torch.equal(other.model.classifier.weight, one.model.classifier.weight)


def test_in_a_grid_a_finished_pass_is_kept_however_short_it_was(tmp_path: Path) -> None:
    Checkpoints(tmp_path, seconds=300, always=True).of("heads-3").finish([head()], 2, np.zeros((1, 3), np.int64))
    assert Checkpoints(tmp_path).of("heads-3").finished


def test_what_can_t_be_gone_on_with_is_dropped(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is no longer finite: going on from the last checkpoint would end there again."""
    plain, kept = heads.loss_of, tmp_path / ".run.unfinished" / "heads-0.safetensors"
    monkeypatch.setattr(heads, "loss_of", lambda *of: plain(*of) * (float("nan") if kept.exists() else 1.0))
    with pytest.raises(JobFailed, match="no longer finite"):
        compare(config(world, tmp_path / "run", methods=("concat",)))
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_can_t_be_written_is_told_and_the_last_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Checkpoints(tmp_path, seconds=0).of("heads")
    keeper.save([head()], 0, 4)

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(JobFailed, match=r"heads\.safetensors can't be written.*No space left"):
        keeper.save([head()], 1, 0)
    assert keeper.restore([head()]) == (0, 4) and [each.name for each in tmp_path.iterdir()] == ["heads.safetensors"]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    keeper = Checkpoints(tmp_path, seconds=0).of("heads")
    keeper.save([head()], 0, 4)
    assert keeper.path is not None
    keeper.path.write_bytes(keeper.path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"heads\.safetensors can't be read"):
        keeper.restore([head()])


def test_a_process_that_died_is_noticed_and_one_that_lives_is_waited_for(tmp_path: Path) -> None:
    here = Checkpoints(tmp_path, process=0, processes=2)
    (tmp_path / "process-1.lock").touch()  # nobody holds it
    with pytest.raises(JobFailed, match="Process 1 of 2 ended"):
        here.wait("heads", 1)
    there = Checkpoints(tmp_path, process=1, processes=2)
    there.of("heads").finish([head()], 2, np.zeros((1, 2), np.int64))
    assert here.wait("heads", 1).answers() is not None
    with there.alive(), pytest.raises(Taken), lock(tmp_path / "process-1.lock"):
        pass


def test_a_run_without_checkpoints_keeps_nothing(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(self: Head, *args: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Head, "step", stopped)
    stores = {"text": str(world.text), "image": str(world.image)}
    with pytest.raises(KeyboardInterrupt):
        fuse(FuseConfig(data=str(world.data), out=str(tmp_path / "run"), checkpoint_minutes=0, **stores))
    assert list(tmp_path.iterdir()) == []
