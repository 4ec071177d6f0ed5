"""`umecache plan`: what an extraction will take, before it is started."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from umecache.cli import encoding as options
from umecache.cli.output import console, emit, reporter


def plan(
    model: options.Model = None,
    recipe: options.Recipe = None,
    data: options.Data = None,
    split: options.Split = None,
    store: options.Store = None,
    dtype: options.Dtype = "float16",
    precision: options.Precision = "float32",
    weights: options.Weights = None,
    layers: options.Layers = "last",
    model_arg: options.ModelArg = None,
    image_size: options.ImageSize = None,
    mean: options.Channels = None,
    std: options.Channels = None,
    crop: options.Crop = False,
    max_length: options.MaxLength = None,
    batch_size: options.BatchSize = "auto",
    devices: Annotated[str, typer.Option(help="The first of these is probed: auto, cpu, or GPU numbers.")] = "auto",
    workers: options.Workers = None,
    limit: options.Limit = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of one fusion run, for the break-even.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Say what an extraction takes: items, disk, hours, memory, and when it has paid.

    Example:

        umecache plan --model deberta-v3 --model vit --data vqa-v2

    A few real batches go through each encoder; nothing is stored. Takes the options of `umecache extract`.
    """
    from umecache.extraction.estimate import estimate

    config = options.config_of(
        model,
        recipe=recipe,
        data=data,
        split=split,
        store=store,
        dtype=dtype,
        precision=precision,
        weights=weights,
        layers=layers,
        model_arg=model_arg,
        image_size=image_size,
        mean=mean,
        std=std,
        crop=crop,
        max_length=max_length,
        batch_size=batch_size,
        devices=devices,
        workers=workers,
        limit=limit,
    )
    document = estimate(config, epochs=epochs, reporter=reporter(json))
    emit(document, json=json, words=lambda: _say(document))


def gigabytes(size: float) -> str:
    """At least three digits that say something: `109`, `0.00027`.

    >>> gigabytes(270_336)
    '0.00027'
    """
    return f"{size / 1e9:,.0f}" if size >= 1e11 else f"{size / 1e9:.3g}"


def _say(document: dict[str, Any]) -> None:
    from rich.table import Table

    shown = console()
    table = Table()
    dtypes = list(document["bytes_by_dtype"])
    headings = ("model", "layers", "items", "tokens", *(f"GB {dtype}" for dtype in dtypes), "items/s", "memory GB")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("model", "layers") else "right")
    for m in document["models"]:
        table.add_row(
            m["model"],
            ",".join(m["layers"]),
            f"{m['items']:,}",
            f"{m['tokens']:,}",
            *(f"{gigabytes(m['bytes_by_dtype'][dtype])}" for dtype in dtypes),
            f"{m['items_per_second'] or 0:,.1f}",
            f"{m['peak_memory_bytes'] / 1e9:,.1f}",
        )
    shown.print(table)
    for m in document["models"]:
        every = m["bytes_by_layer"]
        size = f"{gigabytes(sum(every.values()))} GB in {document['dtype']}"
        shown.print(f"{m['model']}: --layers all ({len(every)}) would be {size}", markup=False)
    hours = ", ".join(f"{count}: {value:,.2f} h" for count, value in document["hours"].items())
    shown.print(f"Time on devices like {document['device']}, by their number: {hours}.")
    shown.print(
        f"Disk: {gigabytes(document['bytes'])} GB needed, {gigabytes(document['free_bytes'])} GB free"
        f"{'.' if document['fits'] else ': it does not fit.'}"
    )
    runs = document["break_even_runs"]
    shown.print(
        f"Of {document['epochs']} epochs each, caching has paid after {runs} fusion run{'s' if runs > 1 else ''}."
        if runs is not None
        else "Reading this cache takes longer than encoding again: it would not pay."
    )
