"""A comparison's table for the terminal and for Markdown, controls marked.

console.print(rich_table(comparison.document))       # the document that `umecache compare --json` prints
text = markdown_table(comparison.document)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from umecache.fusion.registry import METHODS
from umecache.training.table import cells, columns

if TYPE_CHECKING:
    from rich.table import Table

_WORDS = ("method", "text", "image")  # columns of words, on the left; all others are figures


def is_control(method: str) -> bool:
    """It leaves a modality out on purpose, to measure what the others bring."""
    return method in METHODS and METHODS[method].control


def rich_table(document: Mapping[str, Any], *, only: Sequence[str] | None = None) -> Table:
    """The table for a terminal; controls are dim.

    Args:
        document: a comparison.
        only: these columns, in this order; None: all.
    """
    from rich.table import Table
    from rich.text import Text

    named = list(only or columns(document))
    table = Table(title=f"{document['data']}, split {document['eval_split']!r}: accuracy in percent")
    for name in named:
        table.add_column(name, justify="left" if name in _WORDS else "right", no_wrap=True)
    for row in document["rows"]:
        table.add_row(*map(Text, _marked(row, named)), style="dim" if is_control(row["method"]) else None)
    return table


def markdown_table(document: Mapping[str, Any], *, only: Sequence[str] | None = None) -> str:
    """The same as Markdown, without a line at its end."""
    named = list(only or columns(document))
    lines = [named, ["---" if name in _WORDS else "---:" for name in named]]
    lines += [_marked(row, named) for row in document["rows"]]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _marked(row: Mapping[str, Any], named: Sequence[str]) -> list[str]:
    said = cells(row, named)
    if "method" in named and is_control(row["method"]):
        said[named.index("method")] += " (control)"
    return said
