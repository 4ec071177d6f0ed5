"""Does it cost accuracy to shuffle by windows of images, so that each image is read once an epoch?

    python benchmarks/order.py --data DIR --text minilm --image mobilenetv2 --json benchmarks/results/order.json

Trains the same methods with a full shuffle of the questions and with windows of several sizes, each with the same order
seeds and initialisation seeds, and prints the mean accuracy of each and its difference to the full shuffle: per method,
mean over the pairs of runs of equal seeds, and the standard error of that mean.

VQA v2 has 81 windows of 1,024 images. A window of a 81st of a smaller set's images mixes as little; so much is `--cuts`
about: 81 windows, and more (harsher) or fewer.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

from umecache.data.dataset import open_dataset
from umecache.training.compare import compare
from umecache.training.config import CompareConfig

METHODS = "concat,product,mutan,attention"


def main() -> None:
    """Train, subtract, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--text", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--cuts", default="20,81,200", help="windows that an epoch is cut into")
    parser.add_argument("--orders", type=int, default=3, help="order seeds")
    parser.add_argument("--seeds", type=int, default=2, help="seeds of initialisation, for each")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    said = parser.parse_args()
    images = len(open_dataset(said.data).split("train", limit=said.limit, annotations=False).image_ids)
    windows = {f"{cuts} windows": max(1, math.ceil(images / int(cuts))) for cuts in said.cuts.split(",")}
    scores = {"full": accuracies(said, order="full")}
    for name, size in windows.items():
        scores[name] = accuracies(said, order="window", window=size)
    rows = []
    for name, found in scores.items():
        for method, values in found.items():
            apart = [value - whole for value, whole in zip(values, scores["full"][method], strict=True)]
            error = statistics.stdev(apart) / math.sqrt(len(apart)) if len(apart) > 1 else math.nan
            rows.append(
                {
                    "order": name,
                    "images_of_a_window": windows.get(name),
                    "method": method,
                    "accuracy": round(statistics.mean(values), 2),
                    "difference": round(statistics.mean(apart), 2),
                    "standard_error": round(error, 2),
                }
            )
            print(f"{name:14}{method:14}{rows[-1]['accuracy']:8.2f}{rows[-1]['difference']:+8.2f} +- {error:.2f}")
    if said.json:
        facts = {key: value for key, value in vars(said).items() if key not in ("json", "threads")}
        said.json.write_text(json.dumps({"asked": facts, "images": images, "rows": rows}, indent=2) + "\n")


def accuracies(said: argparse.Namespace, **order: Any) -> dict[str, list[float]]:
    """Per method, the accuracy of every order seed and seed, in one order."""
    found: dict[str, list[float]] = {}
    for order_seed in range(said.orders):
        with tempfile.TemporaryDirectory() as folder:
            config = CompareConfig(
                data=said.data,
                limit=said.limit,
                text=(said.text,),
                image=(said.image,),
                methods=tuple(said.methods.split(",")),
                seeds=tuple(range(said.seeds)),
                epochs=said.epochs,
                width=said.width,
                threads=said.threads,
                order_seed=order_seed,
                out=str(Path(folder) / "run"),
                **order,
            )
            for row in compare(config).document["rows"]:
                found.setdefault(row["method"], []).extend(seed["overall"] for seed in row["seeds"])
    return found


if __name__ == "__main__":
    main()
