"""Free memory: the machine's, and what control groups leave of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from umecache.training import memory
from umecache.training.memory import free_memory, group_memory

GB = 1 << 30


def group(folder: Path, *, limit: str, used: int, cached: int = 0, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{'' if version == 2 else 'total_'}inactive_file {cached}\n")


def mine(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "self"
    file.write_text(text)
    return file


def test_the_tightest_group_counts_and_what_can_be_dropped_is_free(tmp_path: Path) -> None:
    told = mine(tmp_path, "0::/slurm/job\n")
    group(tmp_path / "slurm/job", limit="max", used=3 * GB)
    assert group_memory(tmp_path, told) is None
    group(tmp_path / "slurm", limit=str(8 * GB), used=6 * GB, cached=GB)
    assert group_memory(tmp_path, told) == 3 * GB
    group(tmp_path / "slurm/job", limit=str(4 * GB), used=5 * GB)
    assert group_memory(tmp_path, told) == 0


def test_the_older_groups(tmp_path: Path) -> None:
    told = mine(tmp_path, "9:name=systemd:/\n4:memory:/docker/abc\n3:cpu,cpuacct:/\n0::/\n")
    group(tmp_path / "memory/docker/abc", limit=str(2 * GB), used=GB, cached=GB // 2, version=1)
    assert group_memory(tmp_path, told) == GB + GB // 2


def test_a_container_sees_its_own_group_at_the_top(tmp_path: Path) -> None:
    told = mine(tmp_path, "0::/docker/of-the-host\n")
    group(tmp_path, limit=str(2 * GB), used=GB)
    assert group_memory(tmp_path, told) == GB


def test_no_groups_no_limit(tmp_path: Path) -> None:
    assert group_memory(tmp_path, tmp_path / "nothing") is None
    assert group_memory(tmp_path / "nothing", mine(tmp_path, "0::/\n")) is None


def test_free_memory_is_what_both_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "group_memory", lambda: None)
    whole = free_memory(cpu)
    assert whole > 0
    monkeypatch.setattr(memory, "group_memory", lambda: 4096)
    assert free_memory(cpu) == 4096
