"""Trackers: optional, refused before any work, told through Accelerate. Small fakes stand in for the packages."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from umecache.errors import MissingExtra, UsageError
from umecache.trackers import check_tracker, tracking


class FakeRun:
    def __init__(self, told: list[Any]) -> None:
        self.told = told

    def log(self, values: dict[str, float], step: int | None = None, **more: Any) -> None:
        self.told.append((step, values))

    def finish(self) -> None:
        self.told.append("finished")


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a `wandb` that is installed hears."""
    told: list[Any] = []

    def init(project: str, **options: Any) -> FakeRun:
        told.append((project, options))
        return FakeRun(told)

    config = SimpleNamespace(update=lambda values, **more: told.append(dict(values)))
    fake = ModuleType("wandb")
    fake.__spec__ = ModuleSpec("wandb", None)
    fake.init, fake.config = init, config  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return told


def test_without_a_name_nobody_listens(tmp_path: Path) -> None:
    with tracking(None, run="ume-1", folder=tmp_path, facts={}) as tracker:
        tracker.log({"loss": 1.0}, step=1)
    assert list(tmp_path.iterdir()) == []


def test_figures_arrive_with_their_step(wandb: list[Any], tmp_path: Path) -> None:
    with tracking("wandb", run="ume-1", folder=tmp_path, facts={"lr": 0.1, "seeds": (0, 1), "out": None}) as tracker:
        tracker.log({"loss": 1.0}, step=3)
    assert wandb[0] == ("umecache", {"name": "ume-1"})
    assert {"lr": 0.1, "seeds": "[0, 1]", "out": ""} in wandb
    assert (3, {"loss": 1.0}) in wandb and wandb[-1] == "finished"


def test_a_tracker_is_closed_when_the_job_fails(wandb: list[Any], tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), tracking("wandb", run="ume-1", folder=tmp_path, facts={}):
        raise ZeroDivisionError
    assert wandb[-1] == "finished"


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_named_with_what_installs_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=name) as missing:
        check_tracker(name)
    assert "umecache[track]" in missing.value.next


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(UsageError, match="tensorboard, wandb"):
        check_tracker("mlflow")


def test_tensorboard_itself(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra umecache[track] is not installed")
    with tracking("tensorboard", run="ume-1", folder=tmp_path, facts={"lr": 0.1}) as tracker:
        tracker.log({"loss": 1.0}, step=1)
    assert list((tmp_path / "tensorboard" / "ume-1").glob("events*"))
