"""Compares the Triton kernel with the tiled path; prints one JSON line. Run by test_pairs_triton.py.

    TRITON_INTERPRET=1 python -m tests.fusion.triton_checks cpu
    python -m tests.fusion.triton_checks cuda

A program of its own: Triton decides when its kernels are defined whether they are interpreted.
"""

from __future__ import annotations

import itertools
import json
import sys

import torch
from torch import Tensor

from umecache.fusion import pairs_triton
from umecache.fusion.pairs import pair_pool

SETTINGS = [(False, "tanh"), (True, "tanh"), (True, "linear")]
INTERPRETED = {  # every line of the kernels once: the interpreter takes seconds for each
    ("upper", False, "tanh", torch.float32),
    ("upper", True, "linear", torch.float32),
    ("upper", True, "tanh", torch.bfloat16),
    ("all", True, "tanh", torch.float32),
    ("cross", True, "tanh", torch.float32),
}


def results(impl: str, leaves: list[Tensor], mask_BN: Tensor, weighted: bool, **options: object) -> list[Tensor]:
    """f and the gradients of everything."""
    made = [leaf.clone().requires_grad_() for leaf in leaves]
    if weighted:
        options |= {"w_D": made[3], "bias": made[4]}
    f_BD = pair_pool(*made[:3], mask_BN, impl=impl, **options)  # type: ignore[arg-type]
    (f_BD.float() * torch.linspace(-1, 1, f_BD.shape[1], device=f_BD.device)).sum().backward()
    return [f_BD.detach(), *(leaf.grad for leaf in made if leaf.grad is not None)]


def main() -> None:
    device, worst, cases = torch.device(sys.argv[1]), {}, 0
    if device.type == "cpu":
        pairs_triton.TILE = 512  # several programs and tiles although the interpreter allows for few tokens
    shapes = [(7, 20)] if device.type == "cpu" else [(1, 20), (61, 256), (597, 768)]
    torch.manual_seed(0)
    for (n, width), pairs, (weighted, aws_logit), dtype in itertools.product(
        shapes, ("upper", "all", "cross"), SETTINGS, (torch.float32, torch.bfloat16)
    ):
        if device.type == "cpu" and (pairs, weighted, aws_logit, dtype) not in INTERPRETED:
            continue
        a, b, c = (torch.randn(2, n, width, device=device, dtype=dtype) for _ in range(3))
        mask_BN = torch.rand(2, n, device=device) > 0.3
        mask_BN[1] = False  # a sample without any token
        a[~mask_BN] = torch.nan  # what stands at padded tokens never matters
        leaves = [a, b, c, torch.randn(width, device=device, dtype=dtype), torch.randn(1, device=device, dtype=dtype)]
        options = {"pairs": pairs, "aws_logit": aws_logit, "groups_N": [0] * (n // 3) + [1] * (n - n // 3)}
        ours = results("triton", leaves, mask_BN, weighted, **options)
        theirs = results("tiled", leaves, mask_BN, weighted, **options)
        assert len(ours) == len(theirs) == (6 if weighted else 4)
        for x, y in zip(ours, theirs, strict=True):
            assert bool(x.isfinite().all())
            scale = 1 + float(y.float().abs().max())
            key = str(dtype).removeprefix("torch.")
            worst[key] = max(worst.get(key, 0.0), float((x.float() - y.float()).abs().max()) / scale)
        cases += 1
    print(json.dumps({"cases": cases, "worst": worst}))


if __name__ == "__main__":
    main()
