"""`umecache fuse`: stage two, one method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from umecache.cli import completing
from umecache.cli.output import console, emit, reporter
from umecache.cli.parse import key_values
from umecache.cli.processes import in_processes
from umecache.cli.stopping import sigterm_stops

if TYPE_CHECKING:
    from rich.console import Console

    from umecache.training.fuse import RunResult


def fuse(
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
        str | None, typer.Option(help="Trained on. Default: train.", autocompletion=completing.splits)
    ] = None,
    eval_split: Annotated[
        str | None, typer.Option(help="Scored. Default: val.", autocompletion=completing.splits)
    ] = None,
    method_arg: Annotated[
        list[str] | None, typer.Option(help="A setting of the method, such as pairs=cross; repeatable.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="5: that many. 0,1,7: these. Default: one, 0.")] = None,
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
        str | None, typer.Option(help="Learning rate; several, a row each: 1e-4,1e-3. Default: 1e-3.")
    ] = None,
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
    threads: Annotated[int | None, typer.Option(help="CPU threads of torch. Default: its own choice.")] = None,
    residency: Annotated[
        str | None, typer.Option(help="Where features stay: auto, device, memory, store. Default: auto.")
    ] = None,
    checkpoint_minutes: Annotated[
        float | None, typer.Option(help="Between checkpoints, from which a stopped run goes on; 0: none. Default: 5.")
    ] = None,
    tracker: Annotated[str | None, typer.Option(help="tensorboard or wandb. Default: none.")] = None,
    out: Annotated[str | None, typer.Option(help="Run folder. Default: a new one under UMECACHE_HOME/runs.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Stage two: train one fusion method on cached features, score it, save it.

    Example:

        umecache fuse --method ume
        umecache fuse --method ume --text minilm --image mobilenetv2 --seeds 3 --method-arg pairs=cross
        umecache fuse --method ./mine.py:Mine --data my-data

    The run folder holds run.json, model.safetensors, results_SPLIT.json and history.csv.
    """
    from umecache.training.config import parse_lr, parse_pairs, parse_precision, parse_seeds
    from umecache.training.fuse import fuse as run
    from umecache.training.recipe import fuse_config

    config = fuse_config(
        recipe,
        {
            "method": method,
            "method_args": key_values(method_arg, flag="--method-arg") if method_arg else None,
            "text": text,
            "image": image,
            "features": parse_pairs("--features", features) if features else None,
            "lr": parse_lr(lr, auto=False) if lr is not None else None,
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
            "threads": threads,
            "residency": residency,
            "checkpoint_minutes": checkpoint_minutes,
            "tracker": tracker,
            "out": out,
            "overwrite": overwrite,
        },
    )
    with sigterm_stops(why="Nothing of this run was kept.", next="run the same command again"):
        result = in_processes(config.device, lambda: run(config, reporter(json)))
    if result is None or not result.document:
        return  # another process speaks for the job
    emit(result.document, json=json, words=lambda: _say(result))


def _title(shown: Console, document: dict[str, Any]) -> None:
    # A line of its own: a table's title is folded to the width of the table.
    named = " · ".join(str(document[name]) for name in ("method", "text", "image") if document[name])
    shown.print(named, markup=False, soft_wrap=True)


def _say_rates(document: dict[str, Any]) -> None:
    from rich.table import Table

    from umecache.training.table import with_spread

    table = Table()
    for name in ("lr", "accuracy", "run"):
        table.add_column(name, justify="right" if name != "run" else "left", overflow="fold")
    for row in document["rows"]:
        overall = (row["accuracy"] or {}).get("overall")
        table.add_row(f"{row['lr']:g}", with_spread(overall, row["std"]), row["run"])
    shown = console()
    _title(shown, document)
    shown.print(table)


def _say(result: RunResult) -> None:
    from rich.table import Table

    from umecache.training.table import count, with_spread

    document = result.document
    shown = console()
    if "rows" in document:
        _say_rates(document)
        return
    accuracy: dict[str, Any] = document["accuracy"] or {"overall": None, "per_answer_type": {}}
    types = sorted(accuracy["per_answer_type"])
    table = Table()
    table.add_column("seed")
    for name in ("accuracy", "epochs"):
        table.add_column(name, justify="right")
    for seed in document["seeds"]:
        scored = "not scored" if seed["overall"] is None else f"{seed['overall']:.2f}"
        table.add_row(str(seed["seed"]), scored, str(seed["epochs"]))
    _title(shown, document)
    shown.print(table)
    shown.print(
        f"{with_spread(accuracy['overall'], document['std'])} ({document['protocol']}, mean over seeds)"
        + "".join(f" · {name} {accuracy['per_answer_type'][name]:.2f}" for name in types),
        markup=False,
    )
    shown.print(f"{count(document['parameters'])} parameters, {document['seconds_total']:.1f} s", markup=False)
    shown.print(f"run: {document['run']}", markup=False, soft_wrap=True)
