"""Stage one against the bare encoder, and against the loop that people write.

    python benchmarks/extract.py              # a random ViT-Ti and MiniLM, the built-in sample
    python benchmarks/extract.py --image mobilenetv2 --weights ../shared/weights/mobilenetv2_100.safetensors \\
        --data ../shared/data/vqa-v2-mini --split train --limit 2000 --json results/extract.json
    python benchmarks/extract.py --device cuda --image vit --text bert --weights random --precision bfloat16

For images and for questions, items per second (the best of `--repeats`) of

- `bare`: the encoder on ready batches: read, decoded, padded by length, in memory; every distinct item once;
- `umecache`: `extract` as a user runs it, from files to a sealed store (hashing and tokenizing included);
- `loop`: one batch after another in dataset order, padded to the longest, images decoded in line, one image per
  question, appended to a resizable HDF5 dataset.

An item of `bare` and `umecache` is a distinct input. The loop encodes an input as often as it is asked for, so its rate
counts the same distinct inputs over the time that it takes: ratios say how much sooner the job is done. Reported: the
rates, umecache / bare (goal: 0.95 where the CPU keeps up with the encoder) and umecache / loop (goals: 5 for VQA's
images, 2 for its questions), and both ratios once more in CPU time: on a machine that others use as well, and where
the encoder itself runs on the CPU, these are the steadier ones.

The small default encoders are random (`--weights random`): their speed is that of the architecture, their values say
nothing. Shapes: B batch, T tokens (padded), D width.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import h5py
import torch
from torch import Tensor

from umecache.data.dataset import Dataset, Split, open_dataset
from umecache.data.sample import write_sample
from umecache.encoders.base import Encoder, EncoderOptions, Prepared
from umecache.encoders.registry import load_encoder
from umecache.errors import UnreadableInput
from umecache.extraction import extract as stage_one
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.inputs import by_length
from umecache.extraction.sizing import BATCH_SIZES

WAYS = ("bare", "umecache", "loop")
RATIOS = {"of_bare": 8, "times_loop": 8, "of_bare_cpu": 13, "times_loop_cpu": 8}  # and the width of their columns
SMALL = {"image": "timm:vit_tiny_patch16_224", "text": "minilm"}


class Bench:
    """One modality: its encoder, its inputs, three ways to encode them."""

    def __init__(self, modality: str, model: ModelRequest, data: Dataset, arguments: argparse.Namespace) -> None:
        self.model, self.data, self.arguments = model, data, arguments
        self.device = torch.device(arguments.device)
        self.encoder: Encoder = load_encoder(model.name, model.options).to(self.device)
        self.split: Split = data.split(arguments.split, limit=arguments.limit, annotations=False)
        kind = "cuda" if self.device.type == "cuda" else "cpu"
        self.batch_size = arguments.batch_size or BATCH_SIZES[kind, self.encoder.modality]
        self.modality = modality
        self.asked: list[str | int] = [q.text if modality == "text" else q.image_id for q in self.split.questions]
        self.items: list[str | int] = list(dict.fromkeys(self.asked))

    def prepare(self, item: str | int) -> Prepared | None:
        """Read and decode, or tokenize; None where that can't be done."""
        if isinstance(item, str):
            return self.encoder.prepare(item)
        path = self.split.image_path(item)
        try:
            return None if path is None else self.encoder.prepare(path.read_bytes())
        except UnreadableInput:
            return None

    def forward(self, prepared: Sequence[Prepared], pad_to: int | None = None) -> Tensor:
        """Hidden states [B, T, D] on the CPU, float16."""
        batch = {name: tensor.to(self.device) for name, tensor in self.encoder.collate(prepared, pad_to).items()}
        with torch.inference_mode(), self.autocast():
            return self.encoder.encode(batch).half().cpu()

    def autocast(self) -> AbstractContextManager[None]:
        """As `--precision` asks."""
        reduced = self.arguments.precision != "float32"
        dtype = getattr(torch, self.arguments.precision) if reduced else torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype, enabled=reduced)

    def bare(self, folder: Path) -> Callable[[], int]:
        """The encoder alone: batches wait in memory, on the device where it is a GPU."""
        ready = [p for p in map(self.prepare, self.items) if p is not None]
        lengths = [self.encoder.length(p) for p in ready]
        batches = [
            {k: v.to(self.device) for k, v in self.encoder.collate([ready[i] for i in positions]).items()}
            for positions in by_length(range(len(ready)), lengths, self.batch_size)
        ]

        def run() -> int:
            with torch.inference_mode(), self.autocast():
                for batch in batches:
                    self.encoder.encode(batch)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            return len(ready)

        return run

    def umecache(self, folder: Path) -> Callable[[], int]:
        """`extract` as a user runs it, into a new store each time."""
        config = ExtractConfig(
            models=(self.model,),
            data=str(self.data.folder),
            splits=(self.arguments.split,),
            limit=self.arguments.limit,
            device="cpu" if self.device.type == "cpu" else str(self.device.index or 0),
            batch_size=self.arguments.batch_size,
            precision=self.arguments.precision,
            workers=self.arguments.workers,
            compile=self.arguments.compile,
            channels_last=self.arguments.channels_last,
        )
        runs = iter(range(1 << 30))

        def run() -> int:
            # Loading the encoder counts for none of the three.
            with mock.patch.object(stage_one, "load_encoder", lambda *_: self.encoder):
                (summary,) = stage_one.extract(dataclasses.replace(config, store=folder / f"store-{next(runs)}"))
            return summary.encoded - summary.failed

        return run

    def loop(self, folder: Path) -> Callable[[], int]:
        """One batch after another in dataset order, an image per question, appended with its padding."""
        size = self.arguments.batch_size or 32

        def run() -> int:
            seen = set()
            with h5py.File(folder / "loop.h5", "w") as file:
                tokens = None
                for start in range(0, len(self.asked), size):
                    items = self.asked[start : start + size]
                    prepared = {i: p for i, item in enumerate(items) if (p := self.prepare(item)) is not None}
                    seen.update(items[i] for i in prepared)
                    if not prepared:
                        continue
                    hidden_BTD = self.forward(list(prepared.values())).numpy()
                    rows, width, dim = hidden_BTD.shape
                    if tokens is None:
                        shape = (None, None, dim)
                        tokens = file.create_dataset("tokens", (0, width, dim), "f2", maxshape=shape, chunks=True)
                    end = tokens.shape[0] + rows
                    tokens.resize((end, max(tokens.shape[1], width), dim))
                    tokens[end - rows :, :width] = hidden_BTD
            return len(seen)

        return run


@dataclasses.dataclass
class Cost:
    """The least that one way took: wall-clock and CPU seconds (its processes included), and the items it encoded."""

    items: int = 0
    seconds: float = math.inf
    cpu_seconds: float = math.inf


def cpu_seconds() -> float:
    """User and system time of this process and of the children that have ended."""
    return sum(os.times()[:4])


def measure(bench: Bench, repeats: int) -> dict[str, Cost]:
    """The three ways in turn, so that what else the machine does meets them alike; one bare run before warms up."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {way: getattr(bench, way)(Path(folder)) for way in WAYS}
        runs["bare"]()
        costs = {way: Cost() for way in WAYS}
        for _ in range(repeats):
            for way, run in runs.items():
                started, cpu = time.perf_counter(), cpu_seconds()
                cost = costs[way]
                cost.items = run()
                cost.seconds = min(cost.seconds, time.perf_counter() - started)
                cost.cpu_seconds = min(cost.cpu_seconds, cpu_seconds() - cpu)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default=SMALL["image"], help="encoder of images; '' for none")
    parser.add_argument("--text", default=SMALL["text"], help="encoder of questions; '' for none")
    parser.add_argument("--weights", default="random", help="random, a checkpoint, or '' for the registry's own")
    parser.add_argument("--model-arg", action="append", default=[], help="KEY=VALUE for both encoders")
    parser.add_argument("--data", type=Path, help="a data folder; default: the built-in sample, drawn for the run")
    parser.add_argument("--split", default="train")
    parser.add_argument("--limit", type=int, help="the first N questions and their images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--compile", action="store_true", help="torch.compile, for all three")
    parser.add_argument("--channels-last", action="store_true", help="memory format, for all three")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()

    from umecache.cli.parse import key_values

    options = EncoderOptions(
        weights=arguments.weights or None, model_args=key_values(arguments.model_arg, flag="--model-arg")
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if arguments.data is None:
            write_sample(Path(folder) / "sample", images=300, seed=0)
        data = open_dataset(arguments.data or Path(folder) / "sample")
        print(
            f"{'':<7}{'encoder':<28}{'items':>8}{'bare':>10}{'umecache':>10}{'loop':>10}"
            f"{'u/bare':>8}{'u/loop':>8}{'CPU: u/bare':>13}{'u/loop':>8}"
        )
        for modality, name in (("image", arguments.image), ("text", arguments.text)):
            if not name:
                continue
            bench = Bench(modality, ModelRequest(name=name, options=options), data, arguments)
            costs = measure(bench, arguments.repeats)
            counts = {cost.items for cost in costs.values()}
            if len(counts) > 1:
                raise SystemExit(f"the ways encoded different numbers of {modality}s: {costs}")
            bare, ours, loop = (costs[way] for way in WAYS)
            row = {
                "modality": modality,
                "encoder": name,
                "items": ours.items,
                "asked": len(bench.asked),
                "items_per_second": {way: cost.items / cost.seconds for way, cost in costs.items()},
                "cpu_ms_per_item": {way: 1000 * cost.cpu_seconds / cost.items for way, cost in costs.items()},
                "of_bare": bare.seconds / ours.seconds,
                "times_loop": loop.seconds / ours.seconds,
                "of_bare_cpu": bare.cpu_seconds / ours.cpu_seconds,
                "times_loop_cpu": loop.cpu_seconds / ours.cpu_seconds,
            }
            rows.append(row)
            print(
                f"{modality:<7}{name:<28}{row['items']:>8,}"
                + "".join(f"{cost.items / cost.seconds:>10,.1f}" for cost in costs.values())
                + "".join(f"{row[key]:>{width}.2f}" for key, width in RATIOS.items()),
                flush=True,
            )
    if arguments.json:
        facts = {
            "device": platform.machine() if arguments.device == "cpu" else torch.cuda.get_device_name(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "options": {k: str(v) for k, v in vars(arguments).items() if k != "json" and v is not None},
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
