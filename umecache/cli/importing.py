"""`umecache store import`: features made elsewhere become a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umecache.cli.finding import size_words
from umecache.cli.output import emit, reporter
from umecache.errors import UsageError


def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES...", help=".npy folders, .safetensors and HDF5 files, by item id.")
    ],
    store: Annotated[Path, typer.Option("--store", help="The new store's folder.")],
    model: Annotated[str, typer.Option("--model", help="What made the features.")],
    modality: Annotated[str, typer.Option("--modality", help="text or image.")],
    dataset: Annotated[str | None, typer.Option("--data", help="Name of the data set.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Its split.")] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="An SPDX name such as cc-by-4.0.")] = None,
    note: Annotated[str | None, typer.Option("--note", help="Anything else that is known of their origin.")] = None,
    key: Annotated[str, typer.Option("--key", help="The features' array, where an item has several.")] = "features",
    format: Annotated[str, typer.Option("--format", help="zarr or hdf5.")] = "zarr",
    dtype: Annotated[str, typer.Option("--dtype", help="float16, float32, bfloat16 or int8.")] = "float16",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Bring in features made elsewhere: one array [T, D] per item, named by its question or image id.

    Example:

        umecache store import regions/ --model updn --modality image --store stores/updn/val

    Boxes and other arrays beside the features are left out. Nothing is unpickled.
    """
    if modality not in ("text", "image"):
        raise UsageError(f"--modality {modality!r} is neither text nor image.", next="--modality image")
    from umecache.sharing.importing import ImportFacts, import_features

    facts = import_features(
        files,
        store,
        ImportFacts(model, modality, dataset, split, licence, note),
        key=key,
        format=format,
        dtype=dtype,
        reporter=reporter(json),
    )

    def words() -> None:
        typer.echo(f"{facts['path']}: {facts['records']:,} items of width {facts['dim']}, {size_words(facts['bytes'])}")
        typer.echo(f"Next: umecache fuse --{modality} {facts['path']}")

    emit(facts, json=json, words=words)
