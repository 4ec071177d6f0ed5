"""How much memory can still be used: of a GPU, or of the machine and of what the job may take of it.

    free_memory(torch.device("cpu"))            # bytes

Containers and batch systems (Docker, Kubernetes, Slurm) give a job a part of the machine by control groups, and end it
when it takes more; /proc/meminfo knows nothing of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

_GROUPS, _MINE = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_FILES = {  # controllers of the line in /proc/self/cgroup -> folder below _GROUPS, limit, use
    "": ("", "memory.max", "memory.current"),  # version 2
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),  # version 1
}


def free_memory(device: torch.device) -> int:
    """Bytes that can still be used on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo") as facts:  # noqa: PTH123 - a kernel file, not a path of ours
            available = next(line for line in facts if line.startswith("MemAvailable:"))
        found = int(available.split()[1]) * 1024
    except (OSError, StopIteration):
        found = 4 << 30  # no such file on this system: assume a small machine
    allowed = group_memory()
    return found if allowed is None else min(found, allowed)


def group_memory(groups: Path = _GROUPS, mine: Path = _MINE) -> int | None:
    """Bytes left to this process by the tightest of its control groups; None where none limits it.

    Args:
        groups: where control groups are mounted.
        mine: the process's own groups, as the kernel lists them.
    """
    left = [
        max(0, limit - (used - _reclaimable(folder)))
        for folder, limit_file, use_file in _folders(groups, mine)
        if (limit := _number(folder / limit_file)) is not None and (used := _number(folder / use_file)) is not None
    ]
    return min(left, default=None)


def _folders(groups: Path, mine: Path) -> Iterator[tuple[Path, str, str]]:
    """Every group the process is in, up to the topmost: a limit of any of them holds."""
    try:
        lines = mine.read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for kind, (below, *files) in _FILES.items():
            if kind not in controllers.split(","):
                continue
            top = groups / below
            folder = top / path.lstrip("/")
            # In a container the path may be the host's, and the group itself is mounted at the top.
            for each in (folder, *folder.parents):
                if each.is_dir():
                    yield each, files[0], files[1]
                if each == top:
                    break


def _number(file: Path) -> int | None:
    """What a file says; None for "max", or where there is none."""
    try:
        return int(file.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _reclaimable(group: Path) -> int:
    """Bytes of file pages that count as used, but go when memory is needed."""
    try:
        facts = dict(line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
        return int(facts.get("total_inactive_file", facts.get("inactive_file", 0)))
    except (OSError, ValueError):
        return 0
