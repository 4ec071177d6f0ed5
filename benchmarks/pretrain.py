"""Does pre-training a fusion without answers help where few questions have labels?

    python benchmarks/pretrain.py --data daquar --text minilm --image mobilenetv2 --json pretrain.json

Each method is pre-trained once on all questions of the train split (their answers unread), then trained on `--labels`
labelled ones, from the pre-trained weights and from its own initialisation: the same labels, seeds and steps. Every
label count is drawn `--orders` times. Printed per method and label count: both mean accuracies, the mean difference
over the pairs of runs of equal labels and seeds, and the standard error of that mean over the draws of labels (runs
of one draw share their questions and would make it too small).

Pre-training costs as much as `--pretrain-epochs` epochs on all questions; the same number of labelled questions is what
its gain has to be weighed against.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

from umecache.training.compare import compare
from umecache.training.config import CompareConfig, PretrainConfig
from umecache.training.pretrain import pretrain


def main() -> None:
    """Pre-train, train with and without, subtract, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--text", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--methods", default="ume,ume-res")
    parser.add_argument("--labels", default="300,1000", help="labelled questions")
    parser.add_argument("--orders", type=int, default=3, help="draws of the labelled questions")
    parser.add_argument("--seeds", type=int, default=2, help="seeds of initialisation, for each")
    parser.add_argument("--pretrain-epochs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    said = parser.parse_args()
    rows: list[dict[str, Any]] = []
    learned: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for method in said.methods.split(","):
            result = pretrain(
                PretrainConfig(
                    **shared(said),
                    text=said.text,
                    image=said.image,
                    method=method,
                    epochs=said.pretrain_epochs,
                    out=str(folder / method),
                )
            )
            learned[method] = result.document["last"]
            for labels in map(int, said.labels.split(",")):
                rows.append(row(said, method, labels, folder / method))
                print(
                    "{method:<10}{labels:>7} labels  from scratch {scratch:6.2f}  pre-trained {pretrained:6.2f}  "
                    "{difference:+6.2f} +- {standard_error:.2f}".format(**rows[-1]),
                    flush=True,
                )
    if said.json:
        facts = {key: value for key, value in vars(said).items() if key not in ("json", "threads")}
        said.json.write_text(json.dumps({"asked": facts, "pretraining": learned, "rows": rows}, indent=2) + "\n")


def shared(said: argparse.Namespace) -> dict[str, Any]:
    """Settings of both stages."""
    return {"data": said.data, "limit": said.limit, "width": said.width, "threads": said.threads}


def row(said: argparse.Namespace, method: str, labels: int, pretrained: Path) -> dict[str, Any]:
    """Both accuracies and their paired difference."""
    scores: dict[str, list[list[float]]] = {"scratch": [], "pretrained": []}
    for order_seed in range(said.orders):
        for name, init in (("scratch", None), ("pretrained", str(pretrained))):
            scores[name].append(accuracies(said, method, labels, order_seed, init))
    apart = [
        statistics.mean(after) - statistics.mean(before)
        for before, after in zip(scores["scratch"], scores["pretrained"], strict=True)
    ]
    error = statistics.stdev(apart) / math.sqrt(len(apart)) if len(apart) > 1 else math.nan
    means = {name: statistics.mean(map(statistics.mean, found)) for name, found in scores.items()}
    return {
        "method": method,
        "labels": labels,
        **{name: round(mean, 2) for name, mean in means.items()},
        "difference": round(statistics.mean(apart), 2),
        "standard_error": round(error, 2),
        "draws": scores,
    }


def accuracies(said: argparse.Namespace, method: str, labels: int, order_seed: int, init: str | None) -> list[float]:
    """Of every seed."""
    with tempfile.TemporaryDirectory() as folder:
        config = CompareConfig(
            **shared(said),
            text=(said.text,),
            image=(said.image,),
            methods=(method,),
            seeds=tuple(range(said.seeds)),
            epochs=said.epochs,
            label_limit=labels,
            order_seed=order_seed,
            init=init,
            out=str(Path(folder) / "run"),
        )
        (found,) = compare(config).document["rows"]
        return [seed["overall"] for seed in found["seeds"]]


if __name__ == "__main__":
    main()
