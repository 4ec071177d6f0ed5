"""What must be tried in a process of its own, since it may crash or hang: torch, torchvision, GPUs, the pair kernel.

    python -m umecache.doctor.probe            # one JSON document, whatever is broken

Each part is tried by itself; what fails says why under "error".
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any


def torch_facts() -> dict[str, Any]:
    """Version, the CUDA it was built for, whether it exchanges arrays with NumPy, and every GPU, each one used."""
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "usable": usable,
        "warnings": [str(each.message).splitlines()[0] for each in said],
        "mps": torch.backends.mps.is_available(),
        "gpus": [tried(partial(_gpu, i)) for i in range(torch.cuda.device_count() if usable else 0)],
        "numpy": tried(_numpy),
    }


def _gpu(index: int) -> dict[str, Any]:
    import torch

    facts = torch.cuda.get_device_properties(index)
    told: dict[str, Any] = {"name": facts.name, "bytes": facts.total_memory}
    # A build without code for this GPU is "available" and fails at its first kernel.
    return told | tried(lambda: {"sum": float((torch.ones(8, device=f"cuda:{index}") * 2).sum())})


def _numpy() -> dict[str, Any]:
    import numpy as np
    import torch

    return {"sum": int(torch.from_numpy(np.ones(3, np.int64)).sum()), "version": np.__version__}


def torchvision_facts() -> dict[str, Any]:
    """Its compiled operators are what breaks where it doesn't match torch: one is called."""
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    return {"version": torchvision.__version__, "kept": torchvision.ops.nms(boxes, torch.ones(1), 0.5).tolist()}


def kernel_facts() -> dict[str, Any]:
    """The CPU's pair kernel, compiled and checked."""
    from umecache.fusion.pairs_cpu import status

    found = status()
    return {"ready": found.ready, "reason": found.reason}


def tried(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a part finds, or what it raised."""
    try:
        return part()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


def main() -> None:
    """Print the document; standard output is kept from whatever libraries print."""
    out, sys.stdout = sys.stdout, sys.stderr
    parts = {"torch": torch_facts, "torchvision": torchvision_facts, "kernel": kernel_facts}
    out.write(json.dumps({name: tried(part) for name, part in parts.items()}) + "\n")


if __name__ == "__main__":
    main()
