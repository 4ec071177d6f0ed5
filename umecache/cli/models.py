"""`umecache models`: the encoders that can be named, with width, tokens and licence. No torch is loaded.

umecache models
umecache models vit
umecache models --json
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from umecache.cli import completing
from umecache.cli.output import console, emit
from umecache.cli.parse import some_of


def models(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help="Only these. Default: all.", autocompletion=completing.model),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """List the encoders that can be named.

    Example:

        umecache models
        umecache models vit
        umecache models --json
    """
    from umecache.encoders.registry import MODELS, offered_models

    entries = [
        {
            "name": entry.name,
            "modality": entry.modality,
            "dim": entry.dim,
            "tokens": entry.tokens,
            "licence": entry.licence,
            "citation": entry.citation,
            "repo": entry.repo,
            "revision": entry.revision,
        }
        for entry in some_of(MODELS, names, kind="model", listing="umecache models")
    ]
    others = [{"name": name, "target": point.value} for name, point in sorted(offered_models().items()) if not names]
    emit({"models": entries, "entry_points": others}, json=json, words=lambda: _words(entries, others))


def _words(entries: list[dict[str, Any]], others: list[dict[str, str]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    out = console()
    for modality, title in (("text", "Text encoders"), ("image", "Image encoders"), ("audio", "Sound encoders")):
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for column in ("name", "width", "tokens", "licence", "weights"):
            table.add_column(column, justify="right" if column == "width" else "left", overflow="fold")
        for entry in entries:
            if entry["modality"] == modality:
                cells = (entry["name"], str(entry["dim"]), entry["tokens"], entry["licence"], entry["repo"] or "-")
                table.add_row(*map(escape, cells))
        if table.row_count:
            out.print(table)
            out.print()
    for other in others:
        out.print(f"{escape(other['name'])}  from an installed package: {escape(other['target'])}")
    if len(entries) == 1:
        out.print(f"[dim]{escape(entries[0]['citation'])}[/dim]")
        return
    out.print("Also: hf:ORG/NAME (text, transformers), timm:NAME (images), a local folder, ./mine.py:ENTRY.")
    out.print("Local weights for any of them: --weights PATH; none at all: --weights random.")
