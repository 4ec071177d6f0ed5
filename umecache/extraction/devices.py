"""Which processes and devices take part in an extraction.

Three ways in, one result:

- started alone: this process, or one process for each GPU that `--devices` names (`cpu:2`: two CPU processes);
- started by `accelerate launch` or `torchrun`: every process joins in, through Accelerate's `PartialState`;
- started by Slurm's `srun`: the same, after its variables are given the names that torch knows.

Processes share work by claiming shards in the store, so nothing collective happens once they have started.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from umecache.errors import JobFailed, UsageError

# The main process may hash a data set of many gigabytes before the others hear from it.
START_TIMEOUT = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process stands among those of one command."""

    device: torch.device
    index: int = 0
    processes: int = 1
    state: Any = None  # accelerate.PartialState

    @property
    def is_main(self) -> bool:
        """The process that speaks."""
        return self.index == 0

    def share(self, make: Any) -> Any:
        """`make()` in the main process, its result in all. Only used before the work starts.

        An error is shared too, so that no process waits for one that has given up.
        """
        if self.processes == 1:
            return make()
        from accelerate.utils import broadcast_object_list

        box: list[Any] = [None, None]
        if self.is_main:
            try:
                box[0] = make()
            except Exception as error:
                box[1] = error
        broadcast_object_list(box, from_process=0)
        if box[1] is not None:
            raise box[1]
        return box[0]

    def leave(self) -> None:
        """Say goodbye to the process group, where there is one."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Arithmetic in `precision` (float32, bfloat16, float16) inside; float32 leaves everything as it is."""
    reduced = precision != "float32"
    dtype = getattr(torch, precision) if reduced else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=reduced)


def launched() -> bool:
    """A launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 or (
        int(os.environ.get("SLURM_NTASKS", "1")) > 1
        and ("SLURM_PROCID" in os.environ and "SLURM_STEP_ID" in os.environ)
    )


def is_main() -> bool:
    """This process is alone, or the first of those that a launcher started."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0" if launched() else True


def parse_devices(spec: str) -> list[str]:
    """`auto`, `cpu`, `cpu:N` or GPU numbers, as one device per process.

    >>> parse_devices("cpu:2")
    ['cpu', 'cpu']
    """
    if spec == "auto":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count:
            return [f"cuda:{index}" for index in range(count)]
        return ["mps"] if torch.backends.mps.is_available() else ["cpu"]
    if match := re.fullmatch(r"cpu(?::(\d+))?", spec):
        return ["cpu"] * max(int(match[1] or 1), 1)
    if re.fullmatch(r"\d+(,\d+)*", spec):
        wanted = [int(part) for part in spec.split(",")]
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if absent := [index for index in wanted if index >= count]:
            raise UsageError(
                f"--devices {spec}: there is no GPU {absent[0]}.",
                why=f"This machine shows {count}.",
                next="--devices auto; umecache doctor says what is wrong with a GPU",
            )
        return [f"cuda:{index}" for index in wanted]
    raise UsageError(f"--devices {spec!r} can't be read.", why="It takes auto, cpu, cpu:N, or GPU numbers such as 0,1.")


def here(spec: str) -> Place:
    """The place of this process; joins a launcher's process group where there is one."""
    if not launched():
        return Place(torch.device(parse_devices(spec)[0]))
    _translate_slurm(os.environ)
    from accelerate import PartialState

    on_cpu = spec.startswith("cpu") or not torch.cuda.is_available()
    state = PartialState(cpu=on_cpu, **({} if on_cpu else {"timeout": START_TIMEOUT}))
    return Place(state.device, state.process_index, state.num_processes, state)


def start_processes(devices: Sequence[str], argv: Sequence[str], *, module: str = "umecache") -> int:
    """Run `python -m MODULE ARGV`, the command by default, once per device and wait; returns the job's exit status.

    A process that dies costs only the shard it was writing: the others take it over and finish the store, and the job
    has then succeeded.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children: list[subprocess.Popen[bytes]] = []
    try:
        for index, device in enumerate(devices):
            environment = {
                **os.environ,
                "RANK": str(index),
                "LOCAL_RANK": str(index),
                "WORLD_SIZE": str(len(devices)),
                "LOCAL_WORLD_SIZE": str(len(devices)),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            if device.startswith("cuda:"):
                # Accelerate gives process i GPU i of those it sees.
                environment["CUDA_VISIBLE_DEVICES"] = _visible([d.removeprefix("cuda:") for d in devices])
            elif "OMP_NUM_THREADS" not in os.environ:
                environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // len(devices)))
            children.append(subprocess.Popen([sys.executable, "-m", module, *argv], env=environment))
        codes = [child.wait() for child in children]
    except BaseException:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()
        raise
    if codes[0] == 0 or not any(codes):
        return 0
    if codes[0] < 0:
        raise JobFailed(
            f"The main process was killed (signal {-codes[0]}).",
            why="Finished shards are safe.",
            next="run the same command again to go on",
        )
    return codes[0]


def _visible(wanted: Sequence[str]) -> str:
    outer = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not outer:
        return ",".join(wanted)
    names = outer.split(",")
    return ",".join(names[int(index)] for index in wanted)


def _translate_slurm(environment: Any) -> None:
    """Give srun's variables the names torch knows, where no launcher has."""
    if "RANK" in environment or "SLURM_PROCID" not in environment:
        return
    names: Mapping[str, str] = {"SLURM_PROCID": "RANK", "SLURM_LOCALID": "LOCAL_RANK", "SLURM_NTASKS": "WORLD_SIZE"}
    for theirs, ours in names.items():
        environment[ours] = environment[theirs]
    environment.setdefault("LOCAL_WORLD_SIZE", environment.get("SLURM_NTASKS_PER_NODE", environment["WORLD_SIZE"]))
    environment.setdefault("MASTER_ADDR", _first_host(environment.get("SLURM_STEP_NODELIST", "127.0.0.1")))
    # The same for every process of one job, and different between the jobs of one node.
    environment.setdefault("MASTER_PORT", str(20000 + int(environment.get("SLURM_JOB_ID", "0")) % 20000))


def _first_host(nodelist: str) -> str:
    """The first name of Slurm's list: `gpu[03-05,9]` -> `gpu03`."""
    match = re.match(r"([^,\[]+)(?:\[([^\],-]+))?", nodelist)
    return f"{match[1]}{match[2] or ''}" if match else nodelist
