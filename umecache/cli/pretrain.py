"""`umecache pretrain`: a fusion trained without answers, for `fuse --init` and `compare --init`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from umecache.cli import completing
from umecache.cli.output import console, emit, reporter
from umecache.cli.parse import key_values, names
from umecache.cli.stopping import sigterm_stops


def pretrain(
    method: Annotated[
        str | None,
        typer.Option("--method", help="`umecache methods` lists them. Default: ume.", autocompletion=completing.method),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="A folder, or a name under UMECACHE_HOME/data. Default: vqa-v2.", autocompletion=completing.data
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            help="Text store: folder, URL or model name. Default: the only one.", autocompletion=completing.text_store
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Image store, likewise.", autocompletion=completing.image_store)
    ] = None,
    features: Annotated[
        list[str] | None, typer.Option(help="A store of any modality, such as audio=wav2vec2; repeatable.")
    ] = None,
    train_split: Annotated[
        str | None, typer.Option(help="Its answers are not read. Default: train.", autocompletion=completing.splits)
    ] = None,
    method_arg: Annotated[
        list[str] | None, typer.Option(help="A setting of the method, such as pairs=cross; repeatable.")
    ] = None,
    objectives: Annotated[str | None, typer.Option(help="match, mask, or both. Default: match,mask.")] = None,
    mask_share: Annotated[float | None, typer.Option(help="Of a hidden modality's tokens. Default: 0.15.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another head. Default: 0.")] = None,
    order: Annotated[str | None, typer.Option(help="full, window (of images), or auto. Default: auto.")] = None,
    order_seed: Annotated[int | None, typer.Option(help="Of the order of batches. Default: 0.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the train split. Default: 10.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. Default: 1e-3.")] = None,
    schedule: Annotated[str | None, typer.Option(help="constant or cosine. Default: cosine.")] = None,
    warmup: Annotated[float | None, typer.Option(help="Share of steps in which the rate rises. Default: 0.1.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adam or adamw. Default: adamw.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of adam or adamw. Default: 0.01.")] = None,
    clip: Annotated[float | None, typer.Option(help="Largest gradient norm, 0: none. Default: 1.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Questions. Default: 64.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16. Default: float32.")] = None,
    width: Annotated[int | None, typer.Option(help="Common width of the modalities. Default: 256.")] = None,
    dropout: Annotated[float | None, typer.Option(help="On the fused vector. Default: 0.1.")] = None,
    holdout: Annotated[float | None, typer.Option(help="Share of images that is only looked at. Default: 0.1.")] = None,
    limit: Annotated[int | None, typer.Option(help="First N questions of the split.")] = None,
    devices: Annotated[str | None, typer.Option(help="auto, cpu, or a GPU's number. Default: auto.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of torch. Default: its own choice.")] = None,
    residency: Annotated[
        str | None, typer.Option(help="Where features stay: auto, device, memory, store. Default: auto.")
    ] = None,
    checkpoint_minutes: Annotated[
        float | None, typer.Option(help="Between checkpoints, from which a stopped run goes on; 0: none. Default: 5.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Run folder. Default: a new one under UMECACHE_HOME/runs.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Train a fusion without answers: which image a question is about, and what a hidden token was.

    Example:

        umecache pretrain --method ume --data daquar --out runs/ume-pretrained
        umecache fuse --method ume --data daquar --init runs/ume-pretrained --label-limit 600

    The run folder holds run.json, pretrained.safetensors and history.csv.
    """
    from umecache.training.config import PretrainConfig, parse_pairs, parse_precision
    from umecache.training.pretrain import pretrain as run

    said: dict[str, Any] = {
        "method": method,
        "method_args": key_values(method_arg, flag="--method-arg") if method_arg else None,
        "data": data,
        "text": text,
        "image": image,
        "features": parse_pairs("--features", features) if features else None,
        "train_split": train_split,
        "objectives": names(objectives, flag="--objectives"),
        "mask_share": mask_share,
        "seeds": (seed,) if seed is not None else None,
        "order": order,
        "order_seed": order_seed,
        "epochs": epochs,
        "lr": lr,
        "schedule": schedule,
        "warmup": warmup,
        "optimizer": optimizer,
        "weight_decay": weight_decay,
        "clip": clip,
        "batch_size": batch_size,
        "precision": parse_precision(precision) if precision is not None else None,
        "width": width,
        "dropout": dropout,
        "holdout": holdout,
        "limit": limit,
        "device": devices,
        "threads": threads,
        "residency": residency,
        "checkpoint_minutes": checkpoint_minutes,
        "out": out,
        "overwrite": overwrite,
    }
    config = PretrainConfig(**{name: value for name, value in said.items() if value is not None})
    with sigterm_stops(why="Nothing of this run was kept.", next="run the same command again"):
        result = run(config, reporter(json))
    emit(result.document, json=json, words=lambda: _say(result.document))


def _say(document: dict[str, Any]) -> None:
    from umecache.training.pretrain import in_words
    from umecache.training.table import count

    shown, last = console(), document["last"]
    figures = {name: float("nan") if value is None else value for name, value in last.items()}
    shown.print(f"{document['method']}, {last['epoch']} epochs: {in_words(figures)}", markup=False)
    shown.print(f"{count(document['parameters'])} parameters, {document['seconds_total']:.1f} s", markup=False)
    shown.print(f"run: {document['run']}", markup=False, soft_wrap=True)
    shown.print(
        f"next: umecache fuse --method {document['method']} --init {document['run']}", markup=False, soft_wrap=True
    )
