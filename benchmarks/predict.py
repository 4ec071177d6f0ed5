"""One question about one image, answered: time and memory of encoders and fusion apart, per method.

    python benchmarks/predict.py --text bert --image vit --image-size 384 --json benchmarks/results/predict.json
    python benchmarks/predict.py --tiny            # the built-in sample's encoders, as the tests run it

Encoders have random weights (their cost is that of the real ones; answers mean nothing), heads are trained for one
epoch on a few questions of the built-in sample. Every figure is the median over `--repeats` questions asked one at a
time, after one that doesn't count; `share` is the fusion's part of the whole. Peak memory is what the step needs above
what was in use before it.

Cost: with the first line a few minutes on two cores, most of it for encoding the few images.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from pairs import read_peak, start_peak

from umecache.data.dataset import open_dataset
from umecache.data.sample import write_sample
from umecache.encoders.base import EncoderOptions
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.extract import extract
from umecache.training.answering import Answerer
from umecache.training.compare import compare
from umecache.training.config import CompareConfig
from umecache.training.runs import load_run

METHODS = "text-only,image-only,concat,product,attention,evc,ume,ume-res"


def prepare(folder: Path, args: argparse.Namespace) -> dict[str, Path]:
    """Data, stores and a trained head per method; method -> run folder."""
    data = write_sample(folder / "data", images=100)
    stores = {}
    for kind in ("text", "image"):
        name = "sample-" + kind if args.tiny else getattr(args, kind)
        size = args.image_size if kind == "image" and not args.tiny else None
        options = EncoderOptions(weights=None if args.tiny else "random", image_size=size)
        stores[kind] = folder / kind
        request = ModelRequest(name=name, options=options)
        extract(
            ExtractConfig(
                models=(request,), data=str(data), store=stores[kind], limit=args.questions, device=args.device
            )
        )
    config = CompareConfig(
        data=str(data),
        text=(str(stores["text"]),),
        image=(str(stores["image"]),),
        methods=tuple(args.methods.split(",")),
        seeds=(0,),
        limit=args.questions,
        epochs=1,
        batch_size=8,
        width=args.width,
        classes=args.classes,
        device=args.device,
        out=str(folder / "runs"),
    )
    return {row["method"]: Path(row["run"]) for row in compare(config).document["rows"]}


def measure(answerer: Answerer, question: str, image: bytes, repeats: int) -> dict[str, Any]:
    """Milliseconds of each part, and what the fusion needs beside them."""
    taken: dict[str, list[float]] = {}
    answerer.ask([question], image, top=1)
    before = start_peak(answerer.device.type)
    for _ in range(repeats):
        started = time.perf_counter()
        answerer.ask([question], image, top=1)
        taken.setdefault("total", []).append(time.perf_counter() - started)
        for name, seconds in answerer.seconds.items():
            taken.setdefault(name, []).append(seconds)
    peak = None if before is None else max(0, read_peak(answerer.device.type) - before)
    ms = {name: 1000 * statistics.median(values) for name, values in taken.items()}
    weights = sum(weight.numel() * weight.element_size() for weight in answerer.run.model.parameters())
    encoders = sum(
        weight.numel() * weight.element_size() for each in answerer.encoders for weight in each.module.parameters()
    )
    return {
        "ms": ms,
        "share": ms["fusion"] / ms["total"],
        "peak_bytes": peak,
        "head_bytes": weights,
        "encoder_bytes": encoders,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", default="bert")
    parser.add_argument("--image", default="vit")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--classes", type=int, default=3129)
    parser.add_argument("--questions", type=int, default=16, help="of each split, to train the heads on")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tiny", action="store_true", help="the built-in sample's encoders")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        runs = prepare(Path(name), args)
        split = open_dataset(Path(name) / "data").split("val")
        path = split.image_path(split.image_ids[0])
        assert path is not None
        for method, run in runs.items():
            answerer = Answerer(load_run(run, device=args.device if args.device == "cpu" else f"cuda:{args.device}"))
            figures[method] = measure(answerer, split.questions[0].text, path.read_bytes(), args.repeats)
    print(f"{'method':<12}{'text ms':>10}{'image ms':>10}{'fusion ms':>11}{'share':>8}{'head MB':>9}{'peak MB':>9}")
    for method, found in figures.items():
        ms, peak = found["ms"], found["peak_bytes"]
        print(
            f"{method:<12}{ms.get('text', 0):>10.2f}{ms.get('image', 0):>10.2f}{ms['fusion']:>11.3f}"
            f"{found['share']:>8.3f}{found['head_bytes'] / 1e6:>9.2f}" + (f"{peak / 1e6:>9.1f}" if peak else "")
        )
    if args.json is not None:
        facts = {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "device": args.device,
            "text": args.text,
            "image": args.image,
        }
        args.json.write_text(json.dumps({"facts": facts, "methods": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
