"""`umecache compare`: stage two, many methods and seeds in one read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from umecache.cli import completing
from umecache.cli.output import console, emit, reporter
from umecache.cli.parse import key_values, names
from umecache.cli.processes import in_processes
from umecache.cli.stopping import sigterm_stops


def compare(
    methods: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated. Default: the controls, concat, product, attention to ume-res.",
            autocompletion=completing.methods,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="A folder, or a name under UMECACHE_HOME/data. Default: vqa-v2.", autocompletion=completing.data
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="Text store: folder, URL or model name; repeatable.", autocompletion=completing.text_store),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            help="Image store, likewise repeatable; every pair is compared.", autocompletion=completing.image_store
        ),
    ] = None,
    features: Annotated[
        list[str] | None, typer.Option(help="A store of any modality, such as audio=wav2vec2; repeatable.")
    ] = None,
    train_split: Annotated[
        str | None, typer.Option(help="Trained on. Default: train.", autocompletion=completing.splits)
    ] = None,
    eval_split: Annotated[
        str | None, typer.Option(help="Scored. Default: val.", autocompletion=completing.splits)
    ] = None,
    method_arg: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for all that take it, METHOD.KEY=VALUE for one; repeatable.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="5: that many. 0,1,7: these. Default: 3.")] = None,
    init: Annotated[
        str | None, typer.Option(help="Start from a run of `umecache pretrain`.", autocompletion=completing.run)
    ] = None,
    label_limit: Annotated[int | None, typer.Option(help="Use the answers of N drawn train questions only.")] = None,
    stack_seeds: Annotated[
        bool, typer.Option("--stack-seeds", help="Heads of one method share their passes: equal within rounding.")
    ] = False,
    shuffle_images: Annotated[
        bool, typer.Option("--shuffle-images", help="A negative control: every question sees another one's image.")
    ] = False,
    order: Annotated[str | None, typer.Option(help="full, window (of images), or auto. Default: auto.")] = None,
    window: Annotated[int | None, typer.Option(help="Images of a window. Default: 1024.")] = None,
    order_seed: Annotated[int | None, typer.Option(help="Of the order of batches. Default: 0.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the train split. Default: 10.")] = None,
    lr: Annotated[
        str | None, typer.Option(help="Rate, several (a row each), or auto: each method its own. Default: 1e-3.")
    ] = None,
    lr_grid: Annotated[str | None, typer.Option(help="Rates that auto tries. Default: 1e-4,3e-4,1e-3,3e-3.")] = None,
    schedule: Annotated[str | None, typer.Option(help="constant or cosine. Default: cosine.")] = None,
    warmup: Annotated[float | None, typer.Option(help="Share of steps in which the rate rises. Default: 0.1.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adam or adamw. Default: adamw.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of adam or adamw. Default: 0.01.")] = None,
    clip: Annotated[float | None, typer.Option(help="Largest gradient norm, 0: none. Default: 1.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Questions. Default: 64.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches that make one step. Default: 1.")] = None,
    ema: Annotated[
        float | None, typer.Option(help="Decay of averaged weights that answer, 0: none. Default: 0.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16. Default: float32.")] = None,
    classes: Annotated[int | None, typer.Option(help="Most frequent train answers, 0: all. Default: 3129.")] = None,
    min_count: Annotated[int | None, typer.Option(help="Answers seen at least so often in train.")] = None,
    loss: Annotated[str | None, typer.Option(help="ce (most common answer) or soft scores. Default: ce.")] = None,
    width: Annotated[int | None, typer.Option(help="Common width of the modalities. Default: 256.")] = None,
    dropout: Annotated[float | None, typer.Option(help="On the fused vector. Default: 0.1.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without a better score.")] = None,
    holdout: Annotated[float | None, typer.Option(help="Share of train images for that. Default: 0.1.")] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Differences are taken to this method. Default: the first that is no control.",
            autocompletion=completing.method,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="thesis-a, thesis-b, or a TOML file; flags win over it.", autocompletion=completing.recipe),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="First N questions of each split.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="official-2021, official-2016 or thesis. Default: official-2021.")
    ] = None,
    devices: Annotated[
        str | None, typer.Option(help="auto (one), cpu, cpu:N, or GPU numbers: 0,1. Default: auto.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Spread over a Ray cluster: HOST:PORT of its head, or auto (this machine's).")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of torch. Default: its own choice.")] = None,
    residency: Annotated[
        str | None, typer.Option(help="Where features stay: auto, device, memory, store. Default: auto.")
    ] = None,
    checkpoint_minutes: Annotated[
        float | None, typer.Option(help="Between checkpoints, from which a stopped run goes on; 0: none. Default: 5.")
    ] = None,
    tracker: Annotated[str | None, typer.Option(help="tensorboard or wandb. Default: none.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder. Default: a new one under UMECACHE_HOME/runs.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the comparison in --out.")] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Train only the heads that the comparison in --out lacks; replace it.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Train many fusion methods and seeds in one pass over the stores; one table.

    Example:

        umecache compare --methods text-only,concat,product,attention,evc,ume,ume-res --seeds 3 --lr auto

    Each batch is read once and fed to every head. The folder holds report.html (also as report.md and report.tex),
    tables, figures, compare.json and a run folder per method.
    """
    from umecache.api.calls import compare_result
    from umecache.errors import UnknownName
    from umecache.training.compare import compare as run
    from umecache.training.config import parse_grid, parse_lr, parse_pairs, parse_precision, parse_seeds
    from umecache.training.recipe import compare_config

    config = compare_config(
        recipe,
        {
            "methods": names(methods, flag="--methods"),
            "method_args": key_values(method_arg, flag="--method-arg") if method_arg else None,
            "text": tuple(text) if text else None,
            "image": tuple(image) if image else None,
            "features": parse_pairs("--features", features) if features else None,
            "lr": parse_lr(lr, auto=True) if lr is not None else None,
            "lr_grid": parse_grid(lr_grid) if lr_grid is not None else None,
            "seeds": parse_seeds(seeds) if seeds is not None else None,
            "data": data,
            "train_split": train_split,
            "eval_split": eval_split,
            "init": init,
            "label_limit": label_limit,
            "stack_seeds": stack_seeds or None,
            "shuffle_images": shuffle_images or None,
            "order": order,
            "window": window,
            "order_seed": order_seed,
            "epochs": epochs,
            "schedule": schedule,
            "warmup": warmup,
            "optimizer": optimizer,
            "weight_decay": weight_decay,
            "clip": clip,
            "batch_size": batch_size,
            "accumulate": accumulate,
            "ema": ema,
            "precision": parse_precision(precision) if precision is not None else None,
            "classes": classes,
            "min_count": min_count,
            "loss": loss,
            "width": width,
            "dropout": dropout,
            "patience": patience,
            "holdout": holdout,
            "limit": limit,
            "protocol": protocol,
            "device": devices,
            "ray": ray,
            "threads": threads,
            "residency": residency,
            "checkpoint_minutes": checkpoint_minutes,
            "tracker": tracker,
            "out": out,
            "overwrite": overwrite,
            "update": update or None,
        },
    )
    if baseline is not None and baseline not in config.methods:
        raise UnknownName("baseline", baseline, config.methods, listing="umecache compare --help")
    with sigterm_stops(why="Nothing of this run was kept.", next="run the same command again"):
        comparison = in_processes(config.device, lambda: run(config, reporter(json)))
    if comparison is None or not comparison.document:
        return  # another process speaks for the job
    document = compare_result(comparison, baseline).document
    emit(document, json=json, words=lambda: _say(document))


def _say(document: Mapping[str, Any]) -> None:
    from rich.table import Table

    from umecache.cli.report import say_report
    from umecache.training.table import cells, columns, remarks

    shown = console()
    named = columns(document)
    table = Table(title=f"{document['data']}, {document['eval_split']}")
    for name in named:
        table.add_column(name, justify="left" if name in ("method", "text", "image") else "right")
    for row in document["rows"]:
        table.add_row(*cells(row, named))
    shown.print(table)
    for line in remarks(document):
        shown.print(f"- {line}", markup=False)
    say_report(document)
