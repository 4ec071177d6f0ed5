"""A changed comparison trains only what the change touches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import umecache.training.compare as comparing
import umecache.training.grid as module
from umecache.analysis.page import write_all
from umecache.errors import DataError, UsageError
from umecache.training import job
from umecache.training.compare import Comparison, compare
from umecache.training.config import CompareConfig
from umecache.training.job import Material

QUICK: dict[str, Any] = {"width": 8, "batch_size": 32, "epochs": 2, "dropout": 0.1}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """(method, seed) of every head that is trained."""
    seen: list[tuple[str, int]] = []
    plain, rates = module.run_heads, module.choose_rates

    def run_heads(material: Any, specs: Any, *args: Any, **named: Any) -> Any:
        seen.extend((spec.method, spec.seed) for spec in specs)
        return plain(material, specs, *args, **named)

    def choose_rates(material: Any, methods: Any, *args: Any, **named: Any) -> Any:
        seen.extend((f"rate of {method}", -1) for method in methods)
        return rates(material, methods, *args, **named)

    monkeypatch.setattr(module, "run_heads", run_heads)
    monkeypatch.setattr(module, "choose_rates", choose_rates)
    yield seen


def run(world: Any, out: Path, **said: Any) -> Comparison:
    stores = {"text": (str(world.text),), "image": (str(world.image),)}
    return compare(CompareConfig(data=str(world.data), out=str(out), **{**QUICK, **stores, **said}))


def numbers(comparison: Comparison) -> list[dict[str, Any]]:
    """The rows, without where they lie and how long they took."""
    rows = []
    for row in comparison.document["rows"]:
        seeds = [{key: value for key, value in seed.items() if key != "results"} for seed in row["seeds"]]
        rows.append({**{k: v for k, v in row.items() if k not in ("run", "seconds")}, "seeds": seeds})
    return rows


def test_only_what_is_new_is_trained(world: Any, tmp_path: Path, trained: list[tuple[str, int]]) -> None:
    run(world, tmp_path / "a", methods=("concat", "product"), seeds=(0, 1))
    trained.clear()
    wider: dict[str, Any] = {"methods": ("product", "gmu", "concat"), "seeds": (1, 2)}
    updated = run(world, tmp_path / "a", update=True, **wider)
    assert trained == [("product", 2), ("gmu", 1), ("gmu", 2), ("concat", 2)]
    fresh = run(world, tmp_path / "b", **wider)
    assert numbers(updated) == numbers(fresh)
    for name in ("model.safetensors", "results_val.json", "history.csv"):
        for method in wider["methods"]:
            inner = Path("runs") / method / "seed-1" / name
            assert (tmp_path / "a" / inner).read_bytes() == (tmp_path / "b" / inner).read_bytes()


def test_in_a_grid_only_what_is_new_is_trained(
    world: Any, kit: Any, tmp_path: Path, trained: list[tuple[str, int]]
) -> None:
    """One more method, other seeds, one more pair of stores: each trains its own cells' heads and no other's."""
    texts = [str(world.text)]
    for number, name in enumerate(("roberta", "deberta")):
        made: dict[str, Any] = {"model": name, "recipe": {"weights_sha256": f"{number + 1}" * 64}}
        for split, records in world.splits.items():
            digests = kit.text_digests(records)
            kit.store(tmp_path / name / split, "text", kit.text_items(records), digests=digests, **made)
        texts.append(str(tmp_path / name))
    grid: dict[str, Any] = {"text": tuple(texts[:2]), "methods": ("concat", "gmu"), "seeds": (0, 1)}
    run(world, tmp_path / "a", **grid)
    assert len(trained) == 8
    trained.clear()
    run(world, tmp_path / "a", update=True, **{**grid, "methods": ("concat", "gmu", "product")})
    assert trained == [("product", 0), ("product", 1)] * 2
    trained.clear()
    run(world, tmp_path / "a", update=True, **{**grid, "seeds": (1, 2)})
    assert trained == [("concat", 2), ("gmu", 2)] * 2
    trained.clear()
    wider = {**grid, "text": tuple(texts), "seeds": (1, 2)}
    updated = run(world, tmp_path / "a", update=True, **wider)
    assert trained == [("concat", 1), ("concat", 2), ("gmu", 1), ("gmu", 2)]
    assert numbers(updated) == numbers(run(world, tmp_path / "b", **wider))


def test_a_grid_that_lacks_its_report_only_is_not_trained_again(
    world: Any, tmp_path: Path, trained: list[tuple[str, int]]
) -> None:
    first = run(world, tmp_path / "a", methods=("concat",), seeds=(0,))  # the report is the caller's
    trained.clear()
    again = run(world, tmp_path / "a", methods=("concat",), seeds=(0,))
    assert trained == [] and again.path == first.path
    assert again.document == json.loads(json.dumps(first.document))
    with pytest.raises(UsageError, match="holds a run already"):
        run(world, tmp_path / "a", methods=("concat",), seeds=(1,))
    write_all(first.path, rounds=100, figure_files=False)
    with pytest.raises(UsageError, match="holds a run already"):
        run(world, tmp_path / "a", methods=("concat",), seeds=(0,))


def test_finished_cells_outlive_an_error_at_the_end(
    world: Any, kit: Any, tmp_path: Path, trained: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for split, records in world.splits.items():
        digests = kit.text_digests(records)
        kit.store(tmp_path / "roberta" / split, "text", kit.text_items(records), digests=digests, model="roberta")
    grid: dict[str, Any] = {
        "text": (str(world.text), str(tmp_path / "roberta")), "methods": ("concat",), "seeds": (0,),
    }  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(comparing, "write_markdown", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError) as failed:
            run(world, tmp_path / "a", **grid)
    assert any(f"--out {tmp_path / 'a'} goes on" in note for note in failed.value.__notes__)
    monkeypatch.setattr(job, "train", lambda *_, **__: pytest.fail("a finished cell was trained again"))
    monkeypatch.setattr(Material, "_reader", lambda *_: pytest.fail("features of a finished cell were read again"))
    done = run(world, tmp_path / "a", **grid)
    monkeypatch.undo()
    assert numbers(done) == numbers(run(world, tmp_path / "b", **grid))


def test_nothing_new_trains_nothing(world: Any, tmp_path: Path, trained: list[tuple[str, int]]) -> None:
    first = run(world, tmp_path / "a", methods=("concat",), seeds=(0,), patience=2)
    trained.clear()
    again = run(world, tmp_path / "a", methods=("concat",), seeds=(0,), patience=2, update=True)
    assert trained == []
    assert numbers(again) == numbers(first)


@pytest.mark.parametrize(
    "change",
    [{"epochs": 3}, {"lr": 3e-3}, {"order_seed": 1}, {"loss": "soft"}, {"method_args": {"input_norm": "none"}}],
)
def test_a_change_that_touches_all_trains_all(
    world: Any, tmp_path: Path, trained: list[tuple[str, int]], change: dict[str, Any]
) -> None:
    run(world, tmp_path / "a", methods=("concat",), seeds=(0,))
    trained.clear()
    run(world, tmp_path / "a", methods=("concat",), seeds=(0,), update=True, **change)
    assert trained == [("concat", 0)]


def test_rates_are_chosen_once(world: Any, tmp_path: Path, trained: list[tuple[str, int]]) -> None:
    auto: dict[str, Any] = {"lr": "auto", "lr_grid": (1e-3, 1e-2), "seeds": (0,)}
    first = run(world, tmp_path / "a", methods=("concat",), **auto)
    trained.clear()
    more = run(world, tmp_path / "a", methods=("concat", "product"), update=True, **auto)
    assert trained == [("rate of product", -1), ("product", 0)]
    assert numbers(more)[0] == numbers(first)[0]
    trained.clear()
    run(world, tmp_path / "a", methods=("concat",), update=True, **{**auto, "lr_grid": (1e-2, 1e-1)})
    assert trained[0] == ("rate of concat", -1)


def test_a_failing_update_leaves_the_comparison_as_it_was(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(world, tmp_path / "a", methods=("concat",), seeds=(0,))
    before = {file: file.read_bytes() for file in (tmp_path / "a").rglob("*") if file.is_file()}

    def broken(*args: Any, **named: Any) -> Any:
        raise RuntimeError("the machine caught fire")

    monkeypatch.setattr(module, "run_heads", broken)
    with pytest.raises(RuntimeError):
        run(world, tmp_path / "a", methods=("concat", "gmu"), seeds=(0,), update=True)
    assert {file: file.read_bytes() for file in (tmp_path / "a").rglob("*") if file.is_file()} == before


def test_a_damaged_head_is_told(world: Any, tmp_path: Path) -> None:
    run(world, tmp_path / "a", methods=("concat",), seeds=(0,))
    (tmp_path / "a" / "runs" / "concat" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(DataError, match="can't be taken over"):
        run(world, tmp_path / "a", methods=("concat",), seeds=(0,), update=True)


def test_an_older_run_without_a_job_is_trained_again(
    world: Any, tmp_path: Path, trained: list[tuple[str, int]]
) -> None:
    run(world, tmp_path / "a", methods=("concat",), seeds=(0,))
    file = tmp_path / "a" / "runs" / "concat" / "run.json"
    facts = json.loads(file.read_text())
    del facts["job"]
    file.write_text(json.dumps(facts))
    trained.clear()
    run(world, tmp_path / "a", methods=("concat",), seeds=(0,), update=True)
    assert trained == [("concat", 0)]


def test_update_needs_a_place() -> None:
    with pytest.raises(UsageError, match="--update"):
        CompareConfig(update=True)
