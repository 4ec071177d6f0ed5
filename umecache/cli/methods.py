"""`umecache methods`: the fusion methods, with equation, citation and options. No torch is loaded.

umecache methods
umecache methods ume
umecache methods --json
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from umecache.cli import completing
from umecache.cli.output import console, emit
from umecache.cli.parse import some_of

SYMBOLS = (
    "Costs are without the classifier, multiply-adds (forward) and floats kept for the backward pass per question. "
    "D width, M modalities, I their feature widths summed, N tokens, X tokens x feature width summed, S squared token "
    "counts summed, P pairs, G tokens of the guide (text, else the first modality), outer (inner + 1)^M, gates 1 for "
    "two modalities, else M; the other words are options."
)


def methods(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help="Only these. Default: all.", autocompletion=completing.method),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """List the fusion methods, their equations and options.

    Example:

        umecache methods
        umecache methods ume
        umecache methods --json
    """
    from umecache.fusion.costs import COSTS
    from umecache.fusion.registry import METHODS, offered_methods

    entries = [
        {
            "name": entry.name,
            "summary": entry.summary,
            "equation": entry.equation,
            "citation": entry.citation,
            "min_modalities": entry.min_modalities,
            "max_modalities": entry.max_modalities,
            "uses": list(entry.uses) if entry.uses is not None else None,
            "control": entry.control,
            "cost": {
                "parameters": str(COSTS[entry.name].parameters),
                "macs": str(COSTS[entry.name].macs),
                "memory": str(COSTS[entry.name].memory),
            },
            "options": [
                {"name": o.name, "default": o.default, "values": o.values, "help": o.help} for o in entry.options
            ],
        }
        for entry in some_of(METHODS, names, kind="fusion method", listing="umecache methods")
    ]
    others = [{"name": name, "target": point.value} for name, point in sorted(offered_methods().items()) if not names]
    emit({"methods": entries, "entry_points": others}, json=json, words=lambda: _words(entries, others))


def _words(entries: list[dict[str, Any]], others: list[dict[str, str]]) -> None:
    from rich.markup import escape

    out = console()
    for entry in entries:
        out.print(f"[bold]{entry['name']}[/bold]  {escape(entry['summary'])}")
        out.print(f"    {escape(entry['equation'])}")
        out.print(f"    [dim]{escape(entry['citation'])}[/dim]")
        options = ", ".join(f"{o['name']}={str(o['default']).lower()} ({o['values']})" for o in entry["options"])
        out.print(f"    options: {escape(options)}", soft_wrap=True)
        cost = entry["cost"]
        told = f"parameters {cost['parameters']} · multiply-adds {cost['macs']} · kept floats {cost['memory']}"
        out.print(f"    [dim]{told}[/dim]", soft_wrap=True)
    for other in others:
        out.print(f"[bold]{escape(other['name'])}[/bold]  from an installed package: {escape(other['target'])}")
    out.print(f"\n{SYMBOLS}")
    out.print("Set an option with --method-arg NAME=VALUE; your own method is --method ./mine.py:Mine.")
