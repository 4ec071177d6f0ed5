"""`umecache plan`: what an extraction will take, before it is started."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from umecache.cli.encoding import batch_size_of, check_choices, model_requests
from umecache.cli.output import console, emit, reporter
from umecache.cli.parse import names


def plan(
    model: Annotated[list[str], typer.Option("--model", "-m", help="Encoder to run; repeatable. `umecache models`.")],
    data: Annotated[str | None, typer.Option(help="Data folder or name. Default: vqa-v2.")] = None,
    split: Annotated[str | None, typer.Option(help="Splits, comma-separated. Default: train,val.")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder for the stores of one model.")] = None,
    dtype: Annotated[str, typer.Option(help="Stored values: float16, float32, bfloat16, int8.")] = "float16",
    precision: Annotated[str, typer.Option(help="Encoder arithmetic: float32, bfloat16, float16.")] = "float32",
    weights: Annotated[
        list[str] | None, typer.Option(help="Checkpoint file or folder, or 'random'; per model: MODEL=PATH.")
    ] = None,
    layers: Annotated[str, typer.Option(help="'last', indices such as -1,-4, or 'all'.")] = "last",
    model_arg: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the model; or MODEL:KEY=VALUE.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels. Default: the model's own.")] = None,
    mean: Annotated[str | None, typer.Option(help="Per channel, for pixels in 0..1.")] = None,
    std: Annotated[str | None, typer.Option(help="Per channel, for pixels in 0..1.")] = None,
    crop: Annotated[bool, typer.Option("--crop", help="The model's own resize and crop, not the whole image.")] = False,
    max_length: Annotated[int | None, typer.Option(help="Text tokens kept. Default: the model's limit.")] = None,
    batch_size: Annotated[str, typer.Option(help="Records, or auto.")] = "auto",
    devices: Annotated[str, typer.Option(help="The first of these is probed: auto, cpu, or GPU numbers.")] = "auto",
    workers: Annotated[int | None, typer.Option(help="Threads that read and decode.")] = None,
    limit: Annotated[int | None, typer.Option(help="First N questions of each split, and their images.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of one fusion run, for the break-even.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Say what an extraction takes: items, disk, hours, memory, and when it has paid.

    Example:

        umecache plan --model deberta-v3 --model vit --data vqa-v2

    A few real batches go through each encoder; nothing is stored. Takes the options of `umecache extract`.
    """
    check_choices(store_format="zarr", dtype=dtype, precision=precision)
    from umecache.extraction.config import ExtractConfig
    from umecache.extraction.estimate import estimate

    config = ExtractConfig(
        models=model_requests(
            model,
            weights=weights,
            layers=layers,
            model_arg=model_arg,
            image_size=image_size,
            mean=mean,
            std=std,
            crop=crop,
            max_length=max_length,
        ),
        data=data,
        splits=names(split, flag="--split"),
        store=store,
        dtype=dtype,
        precision=precision,  # type: ignore[arg-type]  # checked above
        batch_size=batch_size_of(batch_size),
        limit=limit,
        device=devices,
        workers=workers,
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
        shown.print(
            f"{m['model']}: --layers all ({len(every)}) would be {gigabytes(sum(every.values()))} GB in {document['dtype']}",
            markup=False,
        )
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
