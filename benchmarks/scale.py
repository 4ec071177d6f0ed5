"""The record counts of VQA v2 on a small disk: is memory bounded, and does the last record cost what the first did?

    python benchmarks/scale.py /big/disk/scale --images ../shared/data/vqa-v2-mini/images \\
        --text ../shared/data/vqa-v2-text --json benchmarks/results/scale.json
    python benchmarks/scale.py /big/disk/scale ... --parts fuse        # again, on what lies there

Makes a data folder of VQA v2's size (443,757 + 214,354 questions on 82,783 + 40,504 images, `--share` of them) from a
few real images and questions, each made a file or a text of its own, then

- `extract`: ViT-B/16 at 384 px and BERT in their own token counts, cut to `--dim` widths and one layer, so that
  reading, decoding, tokenizing and writing are nearly all the work. Reported: peak memory, and how long records took in
  each fifth of the shards (the time between their receipts), over the whole;
- `fuse`: one epoch of `concat` on a quarter, a half, and all train questions, read from the store (`--residency
  store`). Reported: peak memory, and the CPU time that each further question took; start and data set cost the same.

Memory is that of the process that works. `anonymous` is what it asked for; `resident` also counts pages of the store's
files that are mapped at the time, which the system takes back when anybody needs them.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPLITS = {"train": (82_783, 443_757, 0), "val": (40_504, 214_354, 500_000)}  # images, questions, first image id
VIT, BERT = "timm:vit_base_patch16_384", "bert"
PARTS = ("data", "extract", "fuse")
SHARES = (0.25, 0.5, 1.0)
FIFTHS = 5
LOOK = 0.1  # seconds between looks at a process's memory


def main() -> None:
    """Make the folder, run the parts, print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where data and stores go: 6 GB at full size")
    parser.add_argument("--images", type=Path, required=True, help="folder of real .jpg files")
    parser.add_argument("--text", type=Path, required=True, help="folder of questions.json.gz and annotations.json.gz")
    parser.add_argument("--share", type=float, default=1.0, help="of VQA v2's counts")
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--json", type=Path)
    said = parser.parse_args()
    parts = said.parts.split(",")
    os.environ["UMECACHE_HOME"] = str(said.folder / "home")
    found: dict[str, Any] = {"share": said.share, "dim": said.dim}
    if said.json and said.json.exists():
        found = json.loads(said.json.read_text())
    if "data" in parts:
        make_data(said.folder / "vqa-scale", said.images, said.text, said.share)
    if "extract" in parts:
        found["extract"] = extract(said.folder / "vqa-scale", said.dim)
        print(json.dumps(found["extract"], indent=2), flush=True)
    if "fuse" in parts:
        found["fuse"] = fuse(said.folder / "vqa-scale", said.share)
        print(json.dumps(found["fuse"], indent=2), flush=True)
    if said.json:
        said.json.write_text(json.dumps(found, indent=2) + "\n")


def make_data(folder: Path, images: Path, text: Path, share: float) -> None:
    """A data folder in the official layout. Every image file and nearly every question differs from all others."""
    real = [path.read_bytes() for path in sorted(images.glob("*.jpg"))]
    questions = json.loads(gzip.decompress((text / "questions.json.gz").read_bytes()))["questions"]
    annotations = {
        each["question_id"]: each
        for each in json.loads(gzip.decompress((text / "annotations.json.gz").read_bytes()))["annotations"]
    }
    shutil.rmtree(folder, ignore_errors=True)
    for split, (image_count, question_count, first) in SPLITS.items():
        ids = range(first + 1, first + 1 + max(1, round(image_count * share)))
        place = folder / f"{split}2014"
        place.mkdir(parents=True)
        for number, data in zip(ids, itertools.cycle(real), strict=False):
            (place / f"COCO_{split}2014_{number:012d}.jpg").write_bytes(own(data, number))
        asked, answered = [], []
        for number, (turn, each) in zip(range(round(question_count * share)), rounds(questions), strict=False):
            image_id = ids[number * len(ids) // round(question_count * share)]
            question_id = ids[0] * 1000 + number
            words = each["question"] if turn == 0 else f"{each['question']} ({turn})"
            asked.append({"image_id": image_id, "question_id": question_id, "question": words})
            answered.append({**annotations[each["question_id"]], "image_id": image_id, "question_id": question_id})
        (folder / f"v2_OpenEnded_mscoco_{split}2014_questions.json").write_text(json.dumps({"questions": asked}))
        (folder / f"v2_mscoco_{split}2014_annotations.json").write_text(json.dumps({"annotations": answered}))


def own(jpeg: bytes, number: int) -> bytes:
    """The same picture in a file of its own: a comment behind the start-of-image marker."""
    comment = str(number).encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + jpeg[2:]


def rounds(items: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The items over and over, with the number of the round."""
    for turn in itertools.count():
        for item in items:
            yield turn, item


def extract(data: Path, dim: int) -> dict[str, Any]:
    """Both encoders over both splits, through the command line, into new stores."""
    shutil.rmtree(Path(os.environ["UMECACHE_HOME"]) / "stores", ignore_errors=True)
    args = {
        VIT: {"embed_dim": dim, "num_heads": 1, "depth": 1},
        BERT: {"hidden_size": dim, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": dim},
    }
    flags = ["--weights", "random", "--data", str(data), "--format", "hdf5", "--devices", "cpu"]
    for model, values in args.items():
        flags += ["--model", model, *itertools.chain(*(("--model-arg", f"{model}:{k}={v}") for k, v in values.items()))]
    started = time.time()
    document, memory = run("extract", *flags)
    stores = {}
    for store in document["stores"]:
        paces = pace(Path(store["path"]), store["records"])
        stores[f"{store['model']} {store['split']}"] = {
            "records": store["records"],
            "bytes": store["bytes"],
            "failed": store["failed"],
            "seconds": store["seconds"],
            "time": store["time"],
            "fifths": paces,
        }
    return {"seconds": round(time.time() - started), "memory_mb": memory, "stores": stores}


def pace(store: Path, records: int) -> list[float]:
    """Time per shard in each fifth of the shards, in the order in which they were written, over the mean of all."""
    written = sorted(path.stat().st_mtime for path in (store / "receipts").iterdir())
    taken = [after - before for before, after in itertools.pairwise(written)][:-1]  # the last shard is shorter
    if len(taken) < FIFTHS:
        return []
    mean = sum(taken) / len(taken)
    cuts = [round(i * len(taken) / FIFTHS) for i in range(FIFTHS + 1)]
    return [round(sum(taken[a:b]) / (b - a) / mean, 3) for a, b in itertools.pairwise(cuts)]


def fuse(data: Path, share: float) -> dict[str, Any]:
    """One epoch on a quarter, a half and all of the train questions."""
    found: dict[str, Any] = {}
    before, spent = 0, 0.0
    for part in SHARES:
        questions = round(SPLITS["train"][1] * share * part)
        out = data.parent / "run"
        shutil.rmtree(out, ignore_errors=True)
        flags = ["--text", BERT, "--image", f"timm--{VIT.removeprefix('timm:')}", "--data", str(data)]
        flags += ["--method", "concat", "--epochs", "1", "--seeds", "0,", "--residency", "store", "--batch-size", "256"]
        started = cpu_seconds()
        _, memory = run("fuse", *flags, "--limit", str(questions), "--out", str(out), "--devices", "cpu")
        took = cpu_seconds() - started
        found[str(questions)] = {
            "cpu_seconds": round(took, 1),
            "memory_mb": memory,
            "milliseconds_per_further_question": round(1000 * (took - spent) / (questions - before), 3)
            if before
            else None,
        }
        before, spent = questions, took
    return found


def cpu_seconds() -> float:
    """Of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(*command: str) -> tuple[dict[str, Any], dict[str, int]]:
    """One umecache command with `--json`: its document, and its peak memory in MB."""
    program = [sys.executable, "-m", "umecache", *command, "--json"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        peaks = {"anonymous": 0, "resident": 0}
        while process.poll() is None:
            for line in status(process.pid):
                name, _, value = line.partition(":")
                if key := {"RssAnon": "anonymous", "VmHWM": "resident"}.get(name):
                    peaks[key] = max(peaks[key], int(value.split()[0]) // 1024)
            time.sleep(LOOK)
        assert process.stdout is not None
        text = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"umecache {command[0]} ended with {process.returncode}: {text}")
    return json.loads(text), peaks


def status(pid: int) -> list[str]:
    """Lines of a process's status; none once it is gone."""
    try:
        return Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    main()
