"""Stage two against doing without it: an epoch with the encoders in the loop, and one run per head.

    python benchmarks/fuse.py epoch --text bert --image vit --image-size 384 --json epoch.json
    python benchmarks/fuse.py heads --methods concat,product,attention,evc,ume --seeds 3 --json heads.json
    python benchmarks/fuse.py heads --residency store --cold # as with a store larger than memory
    python benchmarks/fuse.py core --methods evc,ume --image-size 384 --clock cpu --json core.json
    python benchmarks/fuse.py epoch --data daquar --text STORE --image STORE --questions 640     # of one's own
    python benchmarks/fuse.py epoch --tiny                   # the built-in sample's encoders, as the tests run it

`epoch`: one epoch of one head per method, its features from the store, against the same epoch in which every batch's
questions and images go through the frozen encoders first; `ratio` is how much faster the store is. Losses of both are
printed: they must agree, or the ratio means nothing. Encoders have random weights; their cost is that of the real ones.

`heads`: all methods and seeds in one pass against each of them alone, readers made anew for every run; `time` is the
pass over the sum of the single runs, `bytes` the same for what was read, `waited` the share of the pass spent waiting
for data. `--cold`: the stores' pages leave the page cache before every run, so that each reads from the disk.

`core`: an epoch of a pair method over the time that its own attention and pair stage take in it, forward and backward:
what else there is (reading, decoding, norms, projections, classifier, optimizer) is what the ratio has above 1. Each
batch's attention and pairs are run once more beside its step, on the same tokens.

Cost: `epoch` as above encodes --questions questions and their images twice, 0.5 s each on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from read import drop_cache

from umecache.data.sample import write_sample
from umecache.encoders.base import EncoderOptions
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.extract import extract
from umecache.extraction.reload import declaration, encode_items, reload_encoder
from umecache.fusion.base import SharedFeatures
from umecache.fusion.evc import EVC
from umecache.fusion.layers import join
from umecache.fusion.pairs import pair_pool
from umecache.fusion.ume import UME
from umecache.training.batches import batches
from umecache.training.config import CompareConfig
from umecache.training.head import Head, HeadSpec
from umecache.training.job import Material
from umecache.training.loop import train
from umecache.training.order import epoch_order
from umecache.training.questions import load_questions
from umecache.training.resolve import find_sources

METHODS = "concat,product,attention,evc,ume"


def prepare(folder: Path, args: argparse.Namespace) -> CompareConfig:
    """Data and stores: those that were named, or drawn pictures and encoders with random weights."""
    if args.data:
        return settings(args, args.data, args.text, args.image)
    data = write_sample(folder / "data", images=max(100, args.questions // 4))
    stores = {}
    for kind in ("text", "image"):
        name = "sample-" + kind if args.tiny else getattr(args, kind)
        size = args.image_size if kind == "image" and not args.tiny else None
        options = EncoderOptions(weights=None if args.tiny else "random", image_size=size)
        stores[kind] = folder / kind
        extract(
            ExtractConfig(
                models=(ModelRequest(name=name, options=options),),
                data=str(data),
                store=stores[kind],
                limit=args.questions,
                device=args.device,
            )
        )
    return settings(args, str(data), str(stores["text"]), str(stores["image"]))


def settings(args: argparse.Namespace, data: str, text: str, image: str) -> CompareConfig:
    """What all runs share."""
    return CompareConfig(
        data=data,
        text=(text,),
        image=(image,),
        methods=tuple(args.methods.split(",")),
        limit=args.questions,
        epochs=1,
        batch_size=args.batch_size,
        width=args.width,
        classes=args.classes,
        residency=args.residency,
        order="full",
        dropout=0.0,
    )


def material_of(config: CompareConfig, device: torch.device) -> Material:
    """Fresh readers: nothing is in memory yet."""
    questions = load_questions(config)
    splits = (questions.train, questions.evaluation)
    sources = find_sources(questions.dataset, splits, text=config.text[0], image=config.image[0], limit=config.limit)
    return Material(questions, sources, config, device)


def from_store(
    material: Material, specs: list[HeadSpec], clock: Callable[[], float] = time.perf_counter
) -> tuple[list[Head], float]:
    """Heads after the epochs, and seconds with everything: reading, training."""
    index = material.questions.trained_on
    heads = material.heads(specs, index)
    started = clock()
    train(heads, material.train_reader, material.questions.targets, index, config=material.config)
    return heads, clock() - started


def encoded_batches(material: Material) -> Iterator[tuple[np.ndarray, SharedFeatures]]:
    """The batches of the first epoch, encoded from words and files as they are needed."""
    split, config = material.questions.train, material.config
    made = []
    for source in material.sources:
        declared = declaration(source.stores[split.name])
        made.append((source, declared, reload_encoder(declared).to(material.device)))
    order = epoch_order(material.questions.trained_on, order_seed=config.order_seed, epoch=0)
    for first in range(0, len(order), config.batch_size):
        index = order[first : first + config.batch_size]
        asked = [split.questions[position] for position in index]
        features = {}
        for source, declared, encoder in made:
            if source.name == "text":
                items: list[Any] = [question.text for question in asked]
            else:
                items = [split.image_path(question.image_id).read_bytes() for question in asked]  # type: ignore[union-attr]
            records = encode_items(encoder, declared, items, device=material.device)
            tokens = np.zeros((len(records), max(map(len, records)), encoder.dim), np.float32)
            mask = np.zeros(tokens.shape[:2], bool)
            for row, record in enumerate(records):
                tokens[row, : len(record)], mask[row, : len(record)] = record, True
            features[source.name] = (
                torch.from_numpy(tokens).to(material.device),
                torch.from_numpy(mask).to(material.device),
            )
        yield index, SharedFeatures(features)


def encoders_in_the_loop(material: Material, spec: HeadSpec, batches: list[Any], seconds: float) -> tuple[Head, float]:
    """The head after an epoch on batches that took `seconds` to encode: it is the same work for every method."""
    (head,) = material.heads([spec], material.questions.trained_on)
    started = time.perf_counter()
    for index, features in batches:
        head.step(features, material.questions.targets.hard(index).to(material.device))
    head.end_epoch()
    return head, seconds + time.perf_counter() - started


def epoch(config: CompareConfig, device: torch.device) -> dict[str, Any]:
    """Per method: seconds of both, their ratio, both losses."""
    started = time.perf_counter()
    encoded = list(encoded_batches(material_of(config, device)))
    encoding = time.perf_counter() - started
    figures = {}
    for method in config.methods:
        spec = HeadSpec(method=method, seed=0, lr=1e-3)
        (cached,), seconds = from_store(material_of(config, device), [spec])
        live, in_loop = encoders_in_the_loop(material_of(config, device), spec, encoded, encoding)
        figures[method] = {
            "store_seconds": seconds,
            "loop_seconds": in_loop,
            "ratio": in_loop / seconds,
            "losses": [cached.history[0].loss, live.history[0].loss],
        }
        print(
            f"{method:<12} store {seconds:>9.3f} s   with encoders {in_loop:>9.2f} s   {in_loop / seconds:>8.1f} x"
            f"   loss {cached.history[0].loss:.4f} {live.history[0].loss:.4f}",
            flush=True,
        )
    return figures


def heads(
    config: CompareConfig, device: torch.device, seeds: int, *, cold: bool, clock: Callable[[], float]
) -> dict[str, Any]:
    """One pass against single runs."""
    specs = [HeadSpec(method=m, seed=seed, lr=1e-3) for m in config.methods for seed in range(seeds)]
    together = one_pass(config, specs, device, cold=cold, clock=clock)
    alone = [one_pass(config, [spec], device, cold=cold, clock=clock) for spec in specs]
    single_seconds = sum(run["seconds"] for run in alone)
    figures = {
        "heads": len(specs),
        "pass_seconds": together["seconds"],
        "single_seconds": single_seconds,
        "time": together["seconds"] / single_seconds,
        "bytes": together["bytes"] / sum(run["bytes"] for run in alone),
        "waited": together["waited"],
        "waited_alone": sum(run["waited"] * run["seconds"] for run in alone) / single_seconds,
        "residency": together["residency"],
        "same_losses": together["losses"] == [loss for run in alone for loss in run["losses"]],
    }
    print(
        f"{len(specs)} heads: one pass {figures['pass_seconds']:.2f} s, alone {single_seconds:.2f} s, "
        f"time {figures['time']:.3f}, bytes {figures['bytes']:.4f}, waited {figures['waited']:.1%} "
        f"(alone {figures['waited_alone']:.1%}), features {figures['residency']}, same losses {figures['same_losses']}"
    )
    return figures


def one_pass(
    config: CompareConfig, specs: list[HeadSpec], device: torch.device, *, cold: bool, clock: Callable[[], float]
) -> dict[str, Any]:
    """Train with readers of its own, which go with it: a page that is still mapped can't be dropped."""
    if cold:
        for store in (*config.text, *config.image):
            drop_cache(Path(store))
    material = material_of(config, device)
    trained, seconds = from_store(material, specs, clock)
    reader = material.train_reader
    return {
        "seconds": seconds,
        "bytes": reader.bytes_read,
        "waited": reader.waited / reader.looped,
        "residency": reader.residency,
        "losses": [head.history[-1].loss for head in trained],
    }


def core(config: CompareConfig, device: torch.device, clock: Callable[[], float]) -> dict[str, Any]:
    """Per method: an epoch's seconds, those of its attention and pairs alone, their ratio."""
    figures = {}
    for method in config.methods:
        material = material_of(config, device)
        index = material.questions.trained_on
        (head,) = material.heads([HeadSpec(method=method, seed=0, lr=1e-3)], index)
        fusion = head.model.fusion
        if not isinstance(fusion, EVC):
            raise SystemExit(f"{method} has no attention and pair stage of this kind; --methods evc,ume")
        alone = aside = 0.0  # of attention and pairs; and of all that is not part of an epoch, these included
        started = clock()
        order = epoch_order(index, order_seed=config.order_seed, epoch=0)
        for batch in batches(material.train_reader, order, batch_size=config.batch_size):
            head.step(batch.features, material.questions.targets.hard(batch.index).to(device))
            begun = clock()
            with torch.no_grad():
                x_BND, mask_BN, _ = join(fusion.project(batch.features))
            x_BND.requires_grad_()
            ready = clock()
            abc = fusion.combine(fusion.attend(x_BND, mask_BN))
            weigh = {"w_D": fusion.weigh.weight[0], "bias": fusion.weigh.bias} if isinstance(fusion, UME) else {}
            pair_pool(*abc, mask_BN, pairs=fusion.pairs, **weigh).sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            alone += clock() - ready
            head.model.zero_grad()
            aside += clock() - begun
        head.end_epoch()
        whole = clock() - started - aside
        figures[method] = {"epoch_seconds": whole, "core_seconds": alone, "ratio": whole / alone}
        print(f"{method:<12} epoch {whole:>9.3f} s   attention and pairs {alone:>9.3f} s   {whole / alone:.3f} x")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("epoch", "heads", "core"))
    parser.add_argument("--data", help="a data set that has stores; default: drawn pictures")
    parser.add_argument("--text", default="bert", help="encoder; with --data the folder of its store")
    parser.add_argument("--image", default="vit", help="likewise")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--questions", type=int, default=256, help="of each split")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--classes", type=int, default=3129)
    parser.add_argument("--residency", default="auto")
    parser.add_argument("--device", default="cpu", help="cpu, or the number of a GPU")
    parser.add_argument("--cold", action="store_true", help="heads: drop the page cache before every run")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="heads, core: cpu, where others work too"
    )
    parser.add_argument("--tiny", action="store_true", help="the built-in sample's encoders")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = torch.device(args.device if args.device == "cpu" else f"cuda:{args.device}")
    with tempfile.TemporaryDirectory() as name:
        config = prepare(Path(name), args)
        clock = time.process_time if args.clock == "cpu" else time.perf_counter
        if args.what == "epoch":
            figures = epoch(config, device)
        elif args.what == "heads":
            figures = heads(config, device, args.seeds, cold=args.cold, clock=clock)
        else:
            figures = core(config, device, clock)
    if args.json is not None:
        facts = {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "asked": {key: Path(str(value)).name for key, value in vars(args).items() if key != "json"},
        }
        args.json.write_text(json.dumps({"facts": facts, args.what: figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
