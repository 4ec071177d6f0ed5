"""What each stored dtype costs: bytes, values, accuracy, predictions that flip.

    umecache extract --data easy-vqa --limit 8000 --model minilm --model mobilenetv2 --dtype float32
    python benchmarks/dtypes.py --data easy-vqa --limit 8000 --text TEXT_STORE --image IMAGE_STORE --json out.json

Converts two float32 stores (folders with train and val) into every other dtype, trains the same heads from the same
seeds on each, and holds them against float32: size, relative error of the values, accuracy over seeds, and the share
of val questions whose answer differs from that of the same seed on float32. Not a timed benchmark.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from umecache.stores import Store, open_store
from umecache.stores.convert import convert
from umecache.stores.dtypes import DTYPES
from umecache.training.compare import compare
from umecache.training.config import CompareConfig

REFERENCE = "float32"
SPLITS = ("train", "val")


def folders(source: Path, dtype: str, work: Path, name: str) -> tuple[Path, int]:
    """The stores of one modality in one dtype, converted where need be, and their bytes on disk."""
    if dtype == REFERENCE:
        made = source
    else:
        made = work / f"{name}-{dtype}"
        for split in SPLITS:
            convert(source / split, made / split, dtype=dtype)
    total = sum(file.stat().st_size for split in SPLITS for file in (made / split).rglob("*") if file.is_file())
    return made, total


def error_of(reference: Store, other: Store) -> float:
    """RMS of the difference over RMS of the values, all records of a split."""
    difference, square = 0.0, 0.0
    for name in np.unique(reference.starts, return_index=True)[1].tolist():
        key = reference.ids[name]
        x = reference[key].astype(np.float64)
        difference += float(np.square(other[key] - x).sum())
        square += float(np.square(x).sum())
    return float(np.sqrt(difference / square)) if square else 0.0


def answers_of(run: dict[str, Any]) -> dict[int, str]:
    return {row["question_id"]: row["answer"] for row in json.loads(Path(run["results"]).read_text())}


def flips(rows: dict[str, Any], reference: dict[str, Any]) -> float:
    """Percent of questions, over all seeds, that are answered otherwise than on float32."""
    shares = []
    for mine, theirs in zip(rows["seeds"], reference["seeds"], strict=True):
        a, b = answers_of(mine), answers_of(theirs)
        shares.append(100 * sum(a[key] != b[key] for key in b) / len(b))
    return float(np.mean(shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--text", type=Path, required=True, help="float32 stores: a folder with train and val")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--methods", default="product,ume-res")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for dtype in (REFERENCE, *(d for d in DTYPES if d != REFERENCE)):
            text, text_bytes = folders(arguments.text, dtype, work, "text")
            image, image_bytes = folders(arguments.image, dtype, work, "image")
            config = CompareConfig(
                data=arguments.data,
                text=(str(text),),
                image=(str(image),),
                methods=tuple(arguments.methods.split(",")),
                seeds=tuple(range(arguments.seeds)),
                epochs=arguments.epochs,
                lr=arguments.lr,
                limit=arguments.limit,
                out=str(work / f"run-{dtype}"),
            )
            rows = {row["method"]: row for row in compare(config).document["rows"]}
            first = found.get(REFERENCE, {}).get("rows", rows)
            found[dtype] = {
                "bytes": {"text": text_bytes, "image": image_bytes},
                "error": {
                    "text": error_of(open_store(arguments.text / "val"), open_store(text / "val")),
                    "image": error_of(open_store(arguments.image / "val"), open_store(image / "val")),
                },
                "rows": rows,
                "flips": {method: flips(row, first[method]) for method, row in rows.items()},
            }
            print(_line(dtype, found), flush=True)
        document = {
            "data": arguments.data,
            "epochs": arguments.epochs,
            "lr": arguments.lr,
            "dtypes": {
                dtype: {
                    **{key: facts[key] for key in ("bytes", "error", "flips")},
                    "accuracy": {method: [row["mean"], row["std"]] for method, row in facts["rows"].items()},
                }
                for dtype, facts in found.items()
            },
        }
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


def _line(dtype: str, found: dict[str, Any]) -> str:
    facts, reference = found[dtype], found[REFERENCE]
    size = sum(facts["bytes"].values()) / sum(reference["bytes"].values())
    errors = ", ".join(f"{name} {value:.2e}" for name, value in facts["error"].items())
    methods = "; ".join(
        f"{method} {row['mean']:.2f} ± {row['std'] or 0:.2f}, flips {facts['flips'][method]:.2f} %"
        for method, row in facts["rows"].items()
    )
    return f"{dtype:<9} {size:.3f} x the bytes; relative error: {errors}; {methods}"


if __name__ == "__main__":
    main()
