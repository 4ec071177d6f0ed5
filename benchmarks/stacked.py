"""Seeds of one method stacked against one by one: seconds of the same steps on the same batches.

    python benchmarks/stacked.py --json stacked.json
    python benchmarks/stacked.py --width 32 --classes 13 --seeds 8      # small heads: launching is what takes time
    python benchmarks/stacked.py --device 0                             # a GPU

`ratio` is stacked over one by one, below 1 where stacking pays; the repeats of both alternate, and the median counts.
Features are random, of the shapes of MiniLM (20 x 384) and MobileNetV2 (49 x 1280), and lie on the device. A method
that can't be stacked is named as such.

Cost: a minute per method with attention on one core, seconds for the others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from umecache.fusion.base import SharedFeatures
from umecache.reporting import Silent
from umecache.training.config import CompareConfig
from umecache.training.head import Head, HeadSpec
from umecache.training.stack import Steps

METHODS = "text-only,concat,product,mutan,mfb,gmu,attention,mcan"
SHAPES = {"text": (20, 384), "image": (49, 1280)}  # tokens and width of each modality


class Heard(Silent):
    """Keeps what was said: a method that can't be stacked."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def make_heads(method: str, config: CompareConfig, args: argparse.Namespace, device: torch.device) -> list[Head]:
    dims = {name: dim for name, (_, dim) in SHAPES.items()}
    specs = [HeadSpec(method=method, seed=seed, lr=1e-3) for seed in range(args.seeds)]
    return [Head(spec, config, dims=dims, classes=args.classes, steps=1000, device=device) for spec in specs]


def batch(args: argparse.Namespace, device: torch.device) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    size = args.batch_size
    return {
        name: (torch.randn(size, tokens, dim, device=device), torch.ones(size, tokens, dtype=torch.bool, device=device))
        for name, (tokens, dim) in SHAPES.items()
    }


def seconds_of(
    steps: Steps, heads: list[Head], features: Any, target: torch.Tensor, count: int, device: torch.device
) -> float:
    """Of `count` steps. What heads share of a batch is computed anew for each, as in training."""
    started = time.perf_counter()
    for _ in range(count):
        steps(heads, SharedFeatures(features), target, weight=1.0, update=True)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5, help="of one repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--device", default="cpu", help="cpu, or the number of a GPU")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = torch.device(args.device if args.device == "cpu" else f"cuda:{args.device}")
    config = CompareConfig(width=args.width, dropout=args.dropout)
    torch.manual_seed(0)
    features, target = batch(args, device), torch.randint(0, args.classes, (args.batch_size,), device=device)
    figures: dict[str, Any] = {}
    for method in args.methods.split(","):
        said = Heard()
        ways = {
            "alone": (Steps(stack=False), make_heads(method, config, args, device)),
            "stacked": (Steps(stack=True, reporter=said), make_heads(method, config, args, device)),
        }
        for steps, heads in ways.values():
            seconds_of(steps, heads, features, target, 1, device)  # warm-up
        if said.lines:
            figures[method] = {"stacked": False, "why": said.lines[0]}
            print(said.lines[0], flush=True)
            continue
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.repeats):
            for name, (steps, heads) in ways.items():
                times[name].append(seconds_of(steps, heads, features, target, args.steps, device) / args.steps)
        alone, stacked = (statistics.median(times[name]) for name in ("alone", "stacked"))
        figures[method] = {
            "stacked": True,
            "alone_seconds": alone,
            "stacked_seconds": stacked,
            "ratio": stacked / alone,
        }
        print(
            f"{method:<12} {args.seeds} seeds, a step: one by one {1e3 * alone:8.2f} ms   "
            f"stacked {1e3 * stacked:8.2f} ms   ratio {stacked / alone:.2f}",
            flush=True,
        )
    if args.json is not None:
        facts = {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "asked": {key: str(value) for key, value in vars(args).items()},
        }
        args.json.write_text(json.dumps({"facts": facts, "methods": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
