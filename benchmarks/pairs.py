"""The pair stage, forward and backward: time and memory against the form that keeps the pair tensor.

    python benchmarks/pairs.py --threads 1 --json results/pairs.json      # a few minutes on a CPU
    python benchmarks/pairs.py --device cuda --repeats 20
    python benchmarks/pairs.py --sweep                                    # memory and time as N grows

Implementations: `eager` gathers both tokens of every pair and keeps p_ij, as one would write it; `compile` is
torch.compile of that (it needs a C++ compiler); `tiled` and `cpu` are umecache's. Reported per case: the best of the
repeats, the ratio to eager, and the peak memory above the inputs (gradients included), also in units of N x D floats
per sample. Each measurement runs in a process of its own.

Shapes: B batch, N tokens, D width, P pairs.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from umecache.fusion.pairs import pair_pool

CASES = {"small": (64, 61, 256), "large": (1, 597, 768), "large-16": (16, 597, 768)}  # B, N, D
SWEEP = tuple((1, n, 256) for n in (64, 128, 256, 512, 1024, 2048, 4096))
FASTEST_FIRST = ("triton", "cpu", "tiled", "compile", "eager")


def eager(a_BND: Tensor, b_BND: Tensor, c_BND: Tensor, mask_BN: Tensor, w_D: Tensor | None, bias: Tensor) -> Tensor:
    """The equations as one would write them: all pairs i <= j at once."""
    n = a_BND.shape[1]
    i_P, j_P = torch.triu_indices(n, n, device=a_BND.device)
    p_BPD = torch.tanh(a_BND[:, i_P] + b_BND[:, j_P] + c_BND[:, i_P] * c_BND[:, j_P])
    real_BP = mask_BN[:, i_P] & mask_BN[:, j_P]
    if w_D is None:
        return (p_BPD * real_BP[..., None]).sum(1) / real_BP.sum(1, keepdim=True)
    e_BP = torch.tanh(p_BPD @ w_D + bias).masked_fill(~real_BP, -torch.inf)
    return (e_BP.softmax(1)[:, None] @ p_BPD).squeeze(1)


def implementation(name: str) -> Callable[..., Tensor]:
    """The pair stage by name: f(a, b, c, mask, w, bias)."""
    if name == "eager":
        return eager
    if name == "compile":
        return torch.compile(eager)
    return lambda a, b, c, mask, w, bias: pair_pool(a, b, c, mask, w_D=w, bias=bias, impl=name)


def measure(
    impl: str, batch: int, n: int, d: int, *, mean: bool, device: str, repeats: int, cpu_clock: bool
) -> dict[str, Any]:
    """Seconds (best of `repeats`, after one run that doesn't count) and peak bytes above the inputs."""
    torch.manual_seed(0)
    a, b, c = (torch.randn(batch, n, d, device=device, requires_grad=True) for _ in range(3))
    mask = torch.ones(batch, n, dtype=torch.bool, device=device)
    w = None if mean else torch.randn(d, device=device, requires_grad=True)
    bias = torch.zeros((), device=device, requires_grad=True)
    pool = implementation(impl)

    clock = time.process_time if cpu_clock else time.perf_counter

    def forget() -> None:
        for leaf in (a, b, c, w, bias):
            if leaf is not None:
                leaf.grad = None

    def step() -> float:
        forget()
        started = clock()
        pool(a, b, c, mask, w, bias).sum().backward()
        if device != "cpu":
            torch.cuda.synchronize()
        return clock() - started

    first = step()
    forget()
    before = start_peak(device)
    best = step()
    peak = None if before is None else max(0, read_peak(device) - before)
    # The best of at least three, and of more where they are quick; slow forms are stable enough.
    for _ in range(repeats - 1 if best < 5 else min(2, repeats - 1)):
        best = min(best, step())
    units = None if peak is None else peak / (4 * batch * n * d)
    return {"seconds": best, "first_seconds": first, "peak_bytes": peak, "floats_per_nd": units}


def start_peak(device: str) -> int | None:
    """Forget the peak so far; bytes in use now. None where the system can't forget (only Linux can)."""
    gc.collect()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        ctypes.CDLL(None).malloc_trim(0)
    except OSError:
        return None
    return _status_bytes("VmRSS")


def read_peak(device: str) -> int:
    """Largest number of bytes in use since `start_peak`."""
    return torch.cuda.max_memory_allocated() if device != "cpu" else _status_bytes("VmHWM")


def processor() -> str:
    """The CPU's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _status_bytes(field: str) -> int:
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(field))
    return int(line.split()[1]) * 1024


def in_own_process(arguments: argparse.Namespace, impl: str, case: tuple[int, int, int]) -> dict[str, Any] | str:
    """`measure` in a fresh process; where it fails, the last line that it said."""
    options = ["--one", impl, *map(str, case), "--device", arguments.device, "--repeats", str(arguments.repeats)]
    options += ["--clock", arguments.clock, "--threads", str(arguments.threads)] + (
        ["--mean"] if arguments.mean else []
    )
    done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="small,large", help=f"of {', '.join(CASES)}; B,N,D are {CASES}")
    parser.add_argument("--tiny", action="store_true", help="one tiny case instead: does it run?")
    parser.add_argument("--sweep", action="store_true", help="N from 64 to 4,096 instead, without the eager forms")
    parser.add_argument("--impls", default=",".join(FASTEST_FIRST))
    parser.add_argument("--mean", action="store_true", help="EVC's mean in place of AWS")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine that others use too"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.one:
        impl, *sizes = arguments.one
        batch, n, d = map(int, sizes)
        found = measure(
            impl,
            batch,
            n,
            d,
            mean=arguments.mean,
            device=arguments.device,
            repeats=arguments.repeats,
            cpu_clock=arguments.clock == "cpu",
        )
        print(json.dumps(found))
        return

    cases = {name: CASES[name] for name in arguments.cases.split(",")}
    if arguments.tiny or arguments.sweep:
        cases = {f"N={n}": (b, n, d) for b, n, d in (SWEEP if arguments.sweep else ((2, 9, 16),))}
    wanted = arguments.impls.split(",")
    elsewhere = "triton" if arguments.device == "cpu" else "cpu"
    impls = [i for i in FASTEST_FIRST if i in wanted and i != elsewhere]
    if arguments.sweep:
        impls = [i for i in impls if i in ("cpu", "tiled")]
    rows = []
    print(f"{'case':<10}{'B, N, D':<16}{'form':<9}{'seconds':>10}{'x eager':>9}{'peak MiB':>10}{'x N D':>8}")
    for label, case in cases.items():
        found = {impl: in_own_process(arguments, impl, case) for impl in impls}
        baseline = found.get("eager")
        for impl, figures in found.items():
            row: dict[str, Any] = {"case": label, "B": case[0], "N": case[1], "D": case[2], "impl": impl}
            head = f"{label:<10}{', '.join(map(str, case)):<16}{impl:<9}"
            if isinstance(figures, str):
                print(f"{head} failed: {figures}")
                rows.append({**row, "failed": figures})
                continue
            ratio = baseline["seconds"] / figures["seconds"] if isinstance(baseline, dict) else None
            rows.append({**row, **figures, "times_eager": ratio})
            shown = f"{ratio:>8.1f}x" if ratio is not None else f"{'':>9}"
            peak = figures["peak_bytes"]
            memory = f"{peak / 2**20:>10.1f}{figures['floats_per_nd']:>8.1f}" if peak is not None else ""
            print(f"{head}{figures['seconds']:>10.4f}{shown}{memory}", flush=True)
    if arguments.json:
        facts = {
            "pooling": "mean" if arguments.mean else "aws",
            "pairs": "upper",
            "device": torch.cuda.get_device_name() if arguments.device != "cpu" else processor(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "threads": arguments.threads,
            "clock": arguments.clock,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
