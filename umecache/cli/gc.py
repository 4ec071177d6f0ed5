"""`umecache store gc`: what could go, and what deleting it frees.

umecache store gc
umecache store gc --only incomplete,leftover --delete
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from umecache.cli.finding import size_words
from umecache.cli.output import emit, reporter
from umecache.cli.parse import names
from umecache.errors import UsageError
from umecache.home import homes, stores_homes

KINDS = ("damaged", "incomplete", "duplicated", "unused", "leftover")


def gc(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to look; by default the stores of every home.", show_default=False)
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", help=f"Of {', '.join(KINDS)}: just these, comma-separated.")
    ] = None,
    older: Annotated[float, typer.Option("--older", min=0.0, help="Days before a store counts as unused.")] = 7.0,
    verify: Annotated[bool, typer.Option("--verify", help="Read every byte to find damage.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; without this nothing is changed.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Tell which stores could go: unused, twice there, unfinished, damaged, left behind. Deletes only with --delete.

    Example:

        umecache store gc --only incomplete,leftover --delete

    Never deleted: what holds another user's files, what somebody writes or has open. A store is unused when no run
    below the homes names its features.
    """
    from umecache.sharing.gc import delete as remove
    from umecache.sharing.gc import examine
    from umecache.sharing.usage import runs_by_fingerprint

    wanted = names(only, flag="--only") or KINDS
    for kind in wanted:
        if kind not in KINDS:
            raise UsageError(f"--only {kind!r} is none of {', '.join(KINDS)}.", next="--only incomplete,leftover")
    if folder is not None and not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.", next="umecache store gc looks through UMECACHE_HOME/stores.")
    roots = stores_homes() if folder is None else (folder,)
    runs = runs_by_fingerprint(home / "runs" for home in homes())
    with reporter(json).task("look through the stores", None, "MB") as task:
        found = examine(roots, runs, older=older, deep=verify, tick=lambda n: task.advance(n / 1e6))
    rows = []
    for each in found:
        if each.why in wanted:
            kept = remove(each) if delete else each.kept
            rows.append({**each.as_json(), "kept": kept, "deleted": delete and not kept})
    free = sum(row["bytes"] for row in rows if not row["kept"])

    def words() -> None:
        for row in rows:
            end = f"kept: {row['kept']}" if row["kept"] else "deleted" if row["deleted"] else "can go"
            typer.echo(f"{row['path']}  {row['why']}: {row['detail']}; {size_words(row['bytes'])}, {end}")
        counts = Counter(row["why"] for row in rows if not row["kept"])
        told = ", ".join(f"{n} {kind}" for kind, n in counts.items()) or "nothing"
        typer.echo(f"{told}: {size_words(free)} {'freed' if delete else 'to free'}")
        if free and not delete:
            typer.echo("Next: the same command with --delete")

    emit({"deleted": delete, "bytes": free, "findings": rows}, json=json, words=words)
