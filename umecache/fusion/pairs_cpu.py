"""The pair stage as a vectorised C kernel (`pairs_cpu.c`), compiled on first use for the machine it runs on.

    python -c "from umecache.fusion.pairs_cpu import status; print(status())"

The library is kept in UMECACHE_HOME/kernels/HASH/, HASH being that of source, compiler, flags and processor, so a home
shared by unlike machines holds one each. Without a C compiler, or when compiling or the check after it fails,
`status().ready` is False, `status().reason` says why, and `pairs.py` takes the tiled path.

Compiling takes about two seconds, once. Several processes may compile at once: each writes its own file, and the last
rename wins.

Shapes: B batch, N tokens, D width.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from umecache.fusion import pairs_tiled
from umecache.fusion.pairs_tiled import PairSpec
from umecache.home import home

SOURCE = Path(__file__).with_name("pairs_cpu.c")
SOURCES = (SOURCE, SOURCE.with_name("pairs_cpu_rows.h"))
# gnu11, not c11: only there does GCC contract a * b + c to one instruction. No -ffast-math: see the C file.
FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
# The first that compiles is taken: not every compiler knows the machine by -march, or has OpenMP.
VARIANTS = (("-march=native", "-fopenmp"), ("-mcpu=native", "-fopenmp"), ("-march=native",), ("-mcpu=native",), ())
WIDTH_STEP = 16  # the kernel's rows come in whole vectors
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SETS = {"upper": 0, "all": 1, "cross": 2}


@dataclass(frozen=True, slots=True)
class KernelStatus:
    """Whether the kernel can run here, and where it is or why it can't."""

    ready: bool
    reason: str
    path: Path | None = None


def status() -> KernelStatus:
    """Compile or load the kernel if that has not happened yet in this process, and tell how it went."""
    return _load()[1]


def forward(
    a_BND: Tensor,
    b_BND: Tensor,
    c_BND: Tensor,
    mask_BN: Tensor,
    w_BD: Tensor | None,
    bias_B: Tensor | None,
    spec: PairSpec,
) -> tuple[Tensor, Tensor]:
    """f [B, D] float32 and log(sum of exp(e)) [B] float64 (mean: the log of the pair count)."""
    batch, n, width = a_BND.shape
    a, b, c = (_rows(x) for x in (a_BND, b_BND, c_BND))
    w, bias = _weights(w_BD, bias_B)
    f_BD = torch.zeros((batch, a.shape[2]))
    if w is None:
        log_total_B = pairs_tiled.count_pairs(mask_BN, spec).clamp(min=1).double().log()
    else:
        log_total_B = torch.zeros(batch, dtype=torch.float64)
    mask, groups = mask_BN.contiguous(), _groups(spec)
    failed = _library().umecache_pairs_forward(
        *_pointers(a, b, c, mask, w, bias, groups),
        *(batch, n, a.shape[2], SETS[spec.pairs], int(spec.aws_logit == "linear"), torch.get_num_threads()),
        *_pointers(f_BD, log_total_B),
    )
    if failed:
        raise MemoryError("The pair kernel found no memory for its scratch.")
    return f_BD[:, :width], log_total_B


def backward(
    grad_BD: Tensor,
    a_BND: Tensor,
    b_BND: Tensor,
    c_BND: Tensor,
    mask_BN: Tensor,
    w_BD: Tensor | None,
    bias_B: Tensor | None,
    f_BD: Tensor,
    log_total_B: Tensor,
    spec: PairSpec,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of a, b, c [B, N, D], w [B, D] and bias [B] (None for the mean), float32."""
    batch, n, width = a_BND.shape
    grad, a, b, c, f = (_rows(x) for x in (grad_BD, a_BND, b_BND, c_BND, f_BD))
    w, bias = _weights(w_BD, bias_B)
    da, db, dc = (torch.zeros_like(a) for _ in range(3))
    dw = None if w is None else torch.zeros_like(w)
    dbias = None if w is None else torch.zeros(batch)
    mask, groups = mask_BN.contiguous(), _groups(spec)
    failed = _library().umecache_pairs_backward(
        *_pointers(grad, a, b, c, mask, w, bias, groups, f, log_total_B),
        *(batch, n, a.shape[2], SETS[spec.pairs], int(spec.aws_logit == "linear"), torch.get_num_threads()),
        *_pointers(da, db, dc, dw, dbias),
    )
    if failed:
        raise MemoryError("The pair kernel found no memory for its scratch.")
    da, db, dc = (x[..., :width] for x in (da, db, dc))
    return da, db, dc, None if dw is None else dw[:, :width], dbias


def _rows(x: Tensor) -> Tensor:
    """float32, contiguous, the width padded with zeros to whole vectors."""
    short = -x.shape[-1] % WIDTH_STEP
    x = x.detach().to(torch.float32)
    return F.pad(x, (0, short)) if short else x.contiguous()


def _weights(w_BD: Tensor | None, bias_B: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    if w_BD is None or bias_B is None:
        return None, None
    return _rows(w_BD), bias_B.detach().to(torch.float32).contiguous()


def _groups(spec: PairSpec) -> Tensor | None:
    return torch.tensor(spec.groups, dtype=torch.int32) if spec.pairs == "cross" else None


def _pointers(*tensors: Tensor | None) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(None if x is None else x.data_ptr()) for x in tensors]


# ---- compiling and loading -------------------------------------------------------------------------------------------


def compiler() -> list[str] | None:
    """The C compiler's command: $CC, else cc, gcc or clang; None where there is none."""
    asked = shlex.split(os.environ.get("CC", ""))
    for command in ([asked] if asked else []) + [["cc"], ["gcc"], ["clang"]]:
        found = shutil.which(command[0])
        if found:
            return [found, *command[1:]]
    return None


def compile_kernel(folder: Path, cc: list[str]) -> Path:
    """Compile into `folder`/pairs_cpu.so, atomically; an existing file of ours is taken as it is.

    Raises:
        RuntimeError: no variant of the flags compiles; the compiler's first complaint.
        OSError: the folder can't be written.
    """
    target = folder / "pairs_cpu.so"
    if target.exists() and _ours(target):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    complaint = ""
    for variant in VARIANTS:
        handle, name = tempfile.mkstemp(prefix="pairs_cpu-", suffix=".so", dir=folder)
        os.close(handle)
        made = Path(name)
        try:
            command = [*cc, *FLAGS, *variant, str(SOURCE), "-o", name, "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            if done.returncode == 0:
                made.replace(target)  # whole or not at all, also beside other processes
                return target
            complaint = complaint or (done.stderr.strip() or f"status {done.returncode}").splitlines()[0]
        except subprocess.TimeoutExpired:
            complaint = complaint or "took more than two minutes"
        finally:
            made.unlink(missing_ok=True)
    raise RuntimeError(f"{cc[0]} could not compile {SOURCE.name}: {complaint}")


def kernel_hash(cc: list[str]) -> str:
    """One value for one source, compiler, set of flags and processor."""
    seen = Path(cc[0]).resolve().stat()
    facts = (*cc, str(seen.st_size), str(seen.st_mtime_ns), *FLAGS, repr(VARIANTS), _processor())
    sources = b"".join(path.read_bytes() for path in SOURCES)
    return hashlib.sha256("\0".join(facts).encode() + sources).hexdigest()[:16]


def _processor() -> str:
    """What -march=native depends on: a kernel for another processor would die of an illegal instruction."""
    facts = [platform.system(), platform.machine(), platform.processor()]
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        for field in ("model name", "flags", "Features"):
            facts += [line for line in lines if line.startswith(field)][:1]
    return "\n".join(facts)


def _ours(path: Path) -> bool:
    """Code that another user put on a shared disk is not run."""
    return not hasattr(os, "getuid") or path.stat().st_uid in (os.getuid(), 0)


@functools.cache
def _load() -> tuple[Any, KernelStatus]:
    """(library or None, status): once per process."""
    cc = compiler()
    if cc is None:
        return None, KernelStatus(False, "no C compiler found (cc, gcc, clang or $CC)")
    try:
        try:
            path = compile_kernel(home() / "kernels" / kernel_hash(cc), cc)
        except OSError:  # the home can't be written to, or the file there belongs to somebody else
            path = compile_kernel(Path(tempfile.mkdtemp(prefix="umecache-kernel-")), cc)
        library = ctypes.CDLL(str(path))
    except (OSError, RuntimeError) as error:
        return None, KernelStatus(False, str(error))
    pointer, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    library.umecache_pairs_forward.argtypes = [pointer] * 7 + [size] * 3 + [number] * 3 + [pointer] * 2
    library.umecache_pairs_backward.argtypes = [pointer] * 10 + [size] * 3 + [number] * 3 + [pointer] * 5
    return library, KernelStatus(True, "compiled for this processor", path)


def _library() -> Any:
    library, found = _load()
    if library is None:
        raise RuntimeError(found.reason)
    return library
