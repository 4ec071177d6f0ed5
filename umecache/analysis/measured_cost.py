"""What the pair stage costs on this machine as N grows, measured: O(N^2 D^2) -> O(N^2 D) -> O(N D) memory.

    told = measure(width=256)                   # half a minute on two cores
    write(folder, told)                         # measured-cost.json, beside a comparison
    told = read(folder)                         # None where nothing was measured

One stage, z [N, D] to f [D] with the maps W_1..W_4 and the adaptive weights, forward and backward, in the forms that
the thesis (`fusion/ume.py`) leads through:

    dense    the four parts of a pair joined, a map of that for every pair:  tanh([z_i; z_j; z_i - z_j; z_i * z_j] W)
    kept     maps per token, and every p_ij kept for the backward pass, as one would write it
    tiled    umecache's, in plain PyTorch: p_ij made tile by tile, and again going back
    cpu, triton    the same as a fused kernel, where there is one

A form goes on to twice as many tokens as long as a pass is not expected to take longer than `LONGEST`, or more than
half of the free memory. Seconds: the best of several passes. Bytes: the most that tensors held at one moment beside
the inputs, gradients among them. On the CPU every tensor's storage is followed (`Peak`), on a GPU the allocator tells.
What libraries take for themselves is in neither.

Shapes: N tokens, D width, P pairs (i <= j).
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from umecache.data.files import write_text
from umecache.errors import DataError
from umecache.fusion.pairs import implementation, pair_pool
from umecache.training.memory import free_memory

FILE = "measured-cost.json"
NAMES = {
    "dense": "a map per pair", "kept": "maps per token, pairs kept", "tiled": "maps per token, tiles",
    "cpu": "maps per token, C kernel", "triton": "maps per token, Triton kernel",
}  # fmt: skip
COUNTS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
LONGEST = 1.0  # seconds of one pass
_ENOUGH, _FEWEST, _MOST = 0.2, 3, 20  # seconds and numbers of passes to take the best of
_FITTED = 4  # slopes: over the points of at least a fourth of the largest N
_FORMAT = 1
Form = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def dense(z_ND: Tensor, w_4DD: Tensor, aws_D: Tensor, bias: Tensor) -> Tensor:
    """f [D] of pairs that each have a map of their own: N^2 D^2 multiply-adds."""
    i_P, j_P = _pairs(z_ND)
    zi_PD, zj_PD = z_ND[i_P], z_ND[j_P]
    joined_PE = torch.cat((zi_PD, zj_PD, zi_PD - zj_PD, zi_PD * zj_PD), 1)  # E = 4 D
    return _weighted(F.linear(joined_PE, torch.cat(w_4DD.unbind(), 1)).tanh(), aws_D, bias)


def kept(z_ND: Tensor, w_4DD: Tensor, aws_D: Tensor, bias: Tensor) -> Tensor:
    """f [D] of maps per token: N^2 D multiply-adds for the pairs, and every pair in memory."""
    i_P, j_P = _pairs(z_ND)
    a_ND, b_ND, c_ND = _abc(z_ND, w_4DD)
    return _weighted((a_ND[i_P] + b_ND[j_P] + c_ND[i_P] * c_ND[j_P]).tanh(), aws_D, bias)


def pooled(impl: str) -> Form:
    """The stage as `ume` computes it, by implementation."""

    def form(z_ND: Tensor, w_4DD: Tensor, aws_D: Tensor, bias: Tensor) -> Tensor:
        a, b, c = (x_ND[None] for x_ND in _abc(z_ND, w_4DD))
        real_1N = torch.ones(1, len(z_ND), dtype=torch.bool, device=z_ND.device)
        return pair_pool(a, b, c, real_1N, w_D=aws_D, bias=bias, impl=impl)[0]

    return form


def _abc(z_ND: Tensor, w_4DD: Tensor) -> tuple[Tensor, ...]:
    """A = U1 + U3, B = U2 - U3, C = U4 [N, D]: three maps of each token in place of four."""
    w1, w2, w3, w4 = w_4DD
    return F.linear(z_ND, torch.cat((w1 + w3, w2 - w3, w4))).chunk(3, dim=-1)


def _pairs(x_ND: Tensor) -> Tensor:
    """i and j of every pair i <= j, [2, P]."""
    return torch.triu_indices(len(x_ND), len(x_ND), device=x_ND.device)


def _weighted(p_PD: Tensor, aws_D: Tensor, bias: Tensor) -> Tensor:
    return (p_PD @ aws_D + bias).tanh().softmax(0) @ p_PD


def forms(device: torch.device) -> dict[str, Form]:
    """Those that can run here, the costliest first."""
    found = {"dense": dense, "kept": kept, "tiled": pooled("tiled")}
    fused, _ = implementation(device, torch.float32)
    return found if fused in found else found | {fused: pooled(fused)}


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types for it
    """Follows the storages that operations make: `most` is the largest number of bytes alive at one moment."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = self._alive = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = {each.untyped_storage().data_ptr() for each in args if isinstance(each, Tensor)}
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, Tensor) and each.untyped_storage().data_ptr() not in given:  # no view of an input
                self._follow(each.untyped_storage())
        return out

    def _follow(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        self._alive += storage.nbytes()
        self.most = max(self.most, self._alive)
        weakref.finalize(storage, self._gone, storage.nbytes())

    def _gone(self, size: int) -> None:
        self._alive -= size


def measure(
    *, width: int, device: str = "cpu", counts: Sequence[int] = COUNTS, longest: float = LONGEST
) -> dict[str, Any]:
    """Measure all forms.

    Args:
        width: D.
        device: where.
        counts: N, ascending.
        longest: seconds that one pass may take, as far as can be foreseen.

    Returns:
        `forms`, each with `points` (tokens, seconds, bytes), fitted `slopes` and, where it stopped early, why; and
        what it was measured with.
    """
    started, where = time.perf_counter(), torch.device(device)
    told = [{"form": name, **_grown(form, width, where, counts, longest)} for name, form in forms(where).items()]
    return {
        "format": _FORMAT,
        "width": width,
        "forms": told,
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "took": round(time.perf_counter() - started, 1),
    }


def _grown(form: Form, width: int, device: torch.device, counts: Sequence[int], longest: float) -> dict[str, Any]:
    """One form at larger and larger N."""
    points: list[dict[str, float]] = []
    stopped = None
    for tokens in counts:
        if points:
            last = points[-1]
            more = (tokens / last["tokens"]) ** 2
            if last["seconds"] * more > longest:
                stopped = f"a pass with {tokens:,} tokens would take more than {longest:g} s"
            elif last["bytes"] * more > free_memory(device) / 2:
                stopped = f"{tokens:,} tokens would need more than half of the free memory"
            if stopped:
                break
        points.append(_point(form, width, device, tokens))
    return {
        "points": points,
        "slopes": {key: slope([(point["tokens"], point[key]) for point in points]) for key in ("seconds", "bytes")},
        "stopped": stopped,
    }


def _point(form: Form, width: int, device: torch.device, tokens: int) -> dict[str, float]:
    """Seconds and bytes at one N."""
    made = torch.Generator().manual_seed(0)
    shapes = ((tokens, width), (4, width, width), (width,), ())
    # Small weights, as trained ones are: nothing saturates.
    leaves = [(torch.randn(shape, generator=made) * width**-0.5).to(device).requires_grad_() for shape in shapes]

    def once() -> float:  # seconds of a pass, gradients forgotten before
        for leaf in leaves:
            leaf.grad = None
        begun = time.perf_counter()
        form(*leaves).sum().backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begun

    once()  # what is compiled, loaded or filled on first use counts in neither
    if device.type == "cuda":
        for leaf in leaves:
            leaf.grad = None
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        once()
        most = torch.cuda.max_memory_allocated(device) - before
    else:
        with Peak() as peak:
            once()
        most = peak.most
    passes: list[float] = []
    while len(passes) < _FEWEST or (sum(passes) < _ENOUGH and len(passes) < _MOST):
        passes.append(once())
    return {"tokens": tokens, "seconds": min(passes), "bytes": most}


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """The power k of y ~ N^k over the larger N, least squares on logarithms; None of fewer than three points."""
    chosen = [(n, y) for n, y in points if n * _FITTED >= max(at for at, _ in points) and y > 0]
    if len(chosen) < 3:
        return None
    x, y = np.log(np.array(chosen)).T
    return round(float(np.polyfit(x, y, 1)[0]), 2)


def processor() -> str:
    """The CPU's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def write(folder: Path, told: Mapping[str, Any]) -> None:
    """Beside a comparison."""
    write_text(folder / FILE, json.dumps(told, indent=2) + "\n")


def read(folder: Path) -> dict[str, Any] | None:
    """What was measured; None where nothing was.

    Raises:
        DataError: the file can't be meant.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        told: dict[str, Any] = json.loads(file.read_text("utf-8"))
        if told["format"] != _FORMAT:
            raise ValueError(f"its format is {told['format']!r}")
        for each in told["forms"]:
            figures = [point[key] for point in each["points"] for key in ("tokens", "seconds", "bytes")]
            if each["form"] not in NAMES or not all(math.isfinite(v) and v > 0 for v in figures) or not figures:
                raise ValueError(f"{each['form']!r} has no figures")
            each["slopes"] = {key: each["slopes"][key] for key in ("seconds", "bytes")}
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise DataError(
            f"{file} can't be read.", why=f"{type(error).__name__}: {error}", next="umecache report --measure-cost"
        ) from error
    return told
