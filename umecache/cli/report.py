"""`umecache report`: the report of a finished comparison, again or against another baseline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from umecache.cli import completing
from umecache.cli.output import console, emit
from umecache.home import find_run


def report(
    comparison: Annotated[
        str,
        typer.Argument(
            help="A comparison's folder, or its path below UMECACHE_HOME/runs.", autocompletion=completing.run
        ),
    ],
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Differences are taken to this method. Default: as in the last report.",
            autocompletion=completing.method,
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(
            help="The same comparison with --shuffle-images, to show beside it. Default: as in the last report.",
            autocompletion=completing.run,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Where its data are now. Default: where they were.", autocompletion=completing.data),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Of the bootstrap.", min=100)] = 2000,
    tokens: Annotated[int, typer.Option(help="Questions whose tokens are measured; 0: none.", min=0)] = 512,
    measure_cost: Annotated[
        bool, typer.Option("--measure-cost", help="Time the pair stage against N here: half a minute.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Write the report of a finished comparison: HTML, Markdown, LaTeX, tables, figures.

    Example:

        umecache report runs/vqa-v2/compare-20260101-120000 --baseline text-only

    `umecache compare` does this by itself. Nothing is trained; intervals and differences are computed again from the
    answers in the folder. What --measure-cost finds is kept there: later reports show it again.
    """
    from umecache.analysis.page import write_all

    folder = find_run(comparison)
    if measure_cost:
        _measure(folder)
    document = write_all(
        folder,
        data=data,
        baseline=baseline,
        control=None if control is None else find_run(control),
        rounds=rounds,
        tokens_of=tokens,
    )
    emit(document, json=json, words=lambda: say_report(document))


def _measure(folder: Path) -> None:
    """Time the pair stage at the comparison's width, and keep the figures beside it."""
    from umecache.analysis.evidence import read_document
    from umecache.analysis.measured_cost import measure, write
    from umecache.extraction.devices import parse_devices

    write(folder, measure(width=read_document(folder)["asked"]["width"], device=parse_devices("auto")[0]))


def say_report(document: Mapping[str, Any]) -> None:
    """What was found, and where the page is."""
    shown = console()
    for line in document["findings"]:
        shown.print(f"- {line}", markup=False)
    shown.print(f"report: {document['html']} (the same as report.md and report.tex)", markup=False, soft_wrap=True)
