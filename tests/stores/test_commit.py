"""The order of a commit, and what the work folder is good for."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.stores.toy import Toy, begin, fill, tree, write
from umecache.stores import StoreDamaged, StoreWriteFailed
from umecache.stores.commit import Work, checksums, is_sealed, telling


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_data_then_names_then_the_receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    toy = Toy.make()
    writer = begin(tmp_path / "s", toy, format=format)
    claimed = writer.claim()
    shard = next(claimed)
    steps: list[str] = []
    real = Path.replace

    def synced(fd: int) -> None:
        steps.append("fsync " + str(Path(f"/proc/self/fd/{fd}").readlink().relative_to(tmp_path / "s")))

    def renamed(self: Path, target: Path) -> Path:
        steps.append("rename " + str(Path(target).relative_to(tmp_path / "s")))
        return real(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    fill(shard, toy)
    final = "tokens/c/0/0" if format == "zarr" else "shards/000000.h5"
    folder = str(Path(final).parent)
    at = {step: i for i, step in enumerate(steps)}
    body = next(i for i, step in enumerate(steps) if step.startswith("fsync .writing/tmp/000000-"))
    signed = next(i for i, step in enumerate(steps) if step.startswith("fsync .writing/tmp/000000.json"))
    assert body < at[f"rename {final}"] < at[f"fsync {folder}"] < signed
    assert signed < at["rename receipts/000000.json"] < at["fsync receipts"] == len(steps) - 1


@pytest.mark.parametrize("step", range(6))
def test_stopped_at_any_step_of_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """As if the power failed after the n-th rename of a run: the next run ends with the same bytes."""
    toy = Toy.make(ids=6, distinct=6, broken=0, missing=0)
    write(tmp_path / "whole", toy, shard_records=3, dtype="int8")
    real, count = Path.replace, [0]

    def cut(self: Path, target: Path) -> Path:
        if count[0] == step:
            raise KeyboardInterrupt
        count[0] += 1
        return real(self, target)

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "s", toy, shard_records=3, dtype="int8")
    monkeypatch.setattr(Path, "replace", real)
    assert not is_sealed(tmp_path / "s")
    write(tmp_path / "s", toy, shard_records=3, dtype="int8")
    assert tree(tmp_path / "s") == tree(tmp_path / "whole")


def test_a_receipt_counts_only_with_its_files(tmp_path: Path) -> None:
    toy = Toy.make()
    writer = begin(tmp_path / "s", toy)
    for _, shard in zip(range(2), writer.claim(), strict=False):
        fill(shard, toy)
    for spoil in (
        lambda: (tmp_path / "s/tokens/c/0/0").write_bytes(b"short"),
        lambda: (tmp_path / "s/tokens/c/0/0").unlink(),
        lambda: (tmp_path / "s/receipts/000000.json").write_text("{}"),
        lambda: (tmp_path / "s/receipts/000000.json").write_bytes((tmp_path / "s/receipts/000001.json").read_bytes()),
    ):
        good = tree(tmp_path / "s")
        assert begin(tmp_path / "s", toy).done == 2
        spoil()
        assert begin(tmp_path / "s", toy).done == 1
        for name in ("tokens/c/0/0", "receipts/000000.json"):
            (tmp_path / "s" / name).write_bytes(good[name])


@pytest.mark.parametrize("links", [True, False])
def test_the_first_plan_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def no_links(*_: Any) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", no_links)
    assert not Work(tmp_path).exists()
    first, second = {"format_version": 1, "a": 1}, {"format_version": 1, "a": 2}
    assert Work(tmp_path).create(first) == first
    assert Work(tmp_path).create(second) == first
    assert Work(tmp_path).exists()
    assert not list(Work(tmp_path).tmp.iterdir())
    (tmp_path / ".writing/plan.json").write_text("{")
    with pytest.raises(StoreDamaged, match="no valid JSON"):
        Work(tmp_path).plan()


def test_origins_are_remembered_once(tmp_path: Path) -> None:
    work = Work(tmp_path)
    work.create({"format_version": 1})
    for origin in ({"torch": "2"}, {"torch": "3"}, {"torch": "2"}):
        work.note_origin(origin)
    assert sorted(origin["torch"] for origin in work.other_origins()) == ["2", "3"]


def test_removing_the_work_folder_twice(tmp_path: Path) -> None:
    work = Work(tmp_path)
    work.create({"format_version": 1})
    work.remove()
    work.remove()
    assert [p.name for p in tmp_path.iterdir()] == ["receipts"]


def test_checksums_are_sorted_like_sha256sum_wants_them() -> None:
    assert checksums({"b": "1" * 64, "a/c": "2" * 64}) == f"{'2' * 64}  a/c\n{'1' * 64}  b\n".encode()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "The disk is full."),
        (errno.EDQUOT, "Your quota is used up."),
        (errno.EFBIG, "file size limit"),
        (errno.ESTALE, "network share went away"),
        (errno.EROFS, "read-only"),
        (errno.EXDEV, "Invalid cross-device link"),
    ],
)
def test_faults_are_told_in_one_line(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(StoreWriteFailed) as caught, telling(tmp_path, "shard 3 of 12", ["2 shards are safe."]):
        raise OSError(number, os.strerror(number))
    text = str(caught.value)
    assert "\n" not in text
    assert words in text
    assert "shard 3 of 12" in text
    assert "2 shards are safe." in text
    assert "run the same command again" in text
