"""`umecache extract`: stage one."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from umecache.cli import encoding as options
from umecache.cli.output import console, emit, reporter
from umecache.errors import JobFailed, UmecacheError

if TYPE_CHECKING:
    from umecache.extraction.config import ExtractConfig, StoreSummary

SHOWN = 5  # ids named per reason


def extract(
    model: options.Model = None,
    recipe: options.Recipe = None,
    data: options.Data = None,
    split: options.Split = None,
    store: options.Store = None,
    store_format: Annotated[str, typer.Option("--format", help="zarr, hdf5, or an installed package's.")] = "zarr",
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
    devices: Annotated[str, typer.Option(help="auto, cpu, cpu:N (N processes), or GPU numbers: 0,1.")] = "auto",
    workers: options.Workers = None,
    shard_records: Annotated[int | None, typer.Option(help="Records in one shard. Default: by their size.")] = None,
    limit: options.Limit = None,
    compile_: Annotated[
        bool, typer.Option("--compile", help="torch.compile the encoder; needs a C++ compiler.")
    ] = False,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Memory format of convolutions: often faster on GPUs.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 1 if an input could not be read.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Encode what finished stores have on their failure lists.")
    ] = False,
    ignore_space: Annotated[
        bool, typer.Option("--ignore-space", help="Start although the stores will not fit on the disk.")
    ] = False,
    log: Annotated[Path | None, typer.Option(help="Add progress and remarks to this file.")] = None,
    tracker: Annotated[str | None, typer.Option(help="Accelerate's tracker: tensorboard, wandb.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Stage one: run frozen encoders once and store their hidden states.

    Example:

        umecache extract --model minilm --model mobilenetv2 --data vqa-v2
        umecache extract --recipe thesis-b
        umecache extract --model bert --weights ../checkpoints/my-bert --data my-data --limit 100
        umecache extract --model ./mine.py:ENTRY --devices 0,1

    Each image is encoded once, however many questions ask about it. Kill it at any time and run the same command
    again: it goes on from the finished shards. On several GPUs it uses them all; `torchrun`, `accelerate launch` and
    `srun` work too.
    """
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
        format=store_format,
        shard_records=shard_records,
        compile=compile_,
        channels_last=channels_last,
        retry_failed=retry_failed,
        ignore_space=ignore_space,
        log=log,
        tracker=tracker,
    )
    summaries = _run(config, json=json)
    if summaries is None:
        return
    emit({"stores": [_document(summary) for summary in summaries]}, json=json, words=lambda: _say(summaries))
    failed = sum(summary.failed for summary in summaries)
    if strict and failed:
        raise typer.Exit(1)


def _run(config: ExtractConfig, *, json: bool) -> list[StoreSummary] | None:
    """The summaries; None where another process speaks for the job."""
    from umecache.extraction.devices import here, launched, parse_devices, start_processes
    from umecache.extraction.extract import extract as run

    signal.signal(signal.SIGTERM, _stopped)
    several = not launched() and not config.retry_failed  # which encodes little, and alone
    if several and len(devices := parse_devices(config.device)) > 1:
        if status := start_processes(devices, sys.argv[1:]):
            raise typer.Exit(status)
        return None  # the first of the processes has spoken
    place = here(config.device)
    try:
        summaries = run(config, reporter(json), place)
    except UmecacheError as error:
        if place.is_main:
            raise
        # Every process meets the same bad input, and the main one says so; a failed job is each one's own.
        if error.exit_status == 1:
            sys.stderr.write(f"process {place.index}: {error}\n")
        raise typer.Exit(error.exit_status) from error
    finally:
        place.leave()
    return summaries if place.is_main else None


def _stopped(number: int, frame: FrameType | None) -> None:
    raise JobFailed("Stopped by SIGTERM.", why="Finished shards are safe.", next="run the same command again to go on")


def _document(summary: StoreSummary) -> dict[str, Any]:
    from dataclasses import asdict

    document = asdict(summary)
    document["failures"] = {str(key): reason for key, reason in summary.failures.items()}
    return document


def _say(summaries: list[StoreSummary]) -> None:
    from rich.table import Table

    table = Table(title=None)
    for heading in ("model", "layer", "split", "records", "tokens", "dim", "MB", "failed", "seconds", "fingerprint"):
        table.add_column(heading, justify="left" if heading in ("model", "layer", "split", "fingerprint") else "right")
    for s in summaries:
        table.add_row(
            s.model,
            s.layers,
            s.split,
            f"{s.records:,}",
            f"{s.tokens:,}",
            str(s.dim),
            f"{s.bytes / 1e6:,.1f}",
            str(s.failed),
            f"{s.seconds:.1f}",
            s.fingerprint[:12],
        )
    shown = console()
    shown.print(table)
    for s in summaries:
        shown.print(s.path, markup=False, soft_wrap=True)
    for line in skipped(summaries):
        shown.print(line, markup=False, soft_wrap=True)


def skipped(summaries: Sequence[StoreSummary]) -> list[str]:
    """What was not read and why, counted by reason, with the first ids; and what to do about it."""
    lines = []
    # Layers of one model share their inputs, and so their failures.
    for s in {(s.model, s.split): s for s in reversed(summaries)}.values():
        by_reason: dict[str, list[str]] = {}
        for key, reason in s.failures.items():
            by_reason.setdefault(reason.partition(":")[0], []).append(str(key))
        if by_reason:
            lines.append(
                f"{s.model} {s.split}: {s.failed:,} of {s.records:,} inputs were not read, and are recorded so:"
            )
        for reason, keys in sorted(by_reason.items(), key=lambda item: -len(item[1])):
            first = ", ".join(keys[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")
            lines.append(f"  {len(keys):,} not read: {reason} (ids {first})")
    if lines:
        lines.append(
            "Next: mend or replace these files, then run the same command with --retry-failed; fuse counts them."
        )
    return lines
