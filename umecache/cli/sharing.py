"""`umecache store push`, `pull` and `card`: stores on their way.

umecache store push vqa-v2/vit-1a2b3c4d s3://bucket/vit-1a2b3c4d
umecache store pull https://example.org/vit-1a2b3c4d --split val
umecache store card vqa-v2/vit-1a2b3c4d/val
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from umecache.cli import completing
from umecache.cli.finding import StoreArgument, find_folder, size_words
from umecache.cli.output import emit, reporter
from umecache.cli.parse import names
from umecache.cli.stopping import sigterm_stops
from umecache.errors import UsageError

if TYPE_CHECKING:
    from umecache.sharing.pull import Moved

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
SplitOption = Annotated[
    str | None,
    typer.Option("--split", help="Only the stores of these splits, comma-separated.", autocompletion=completing.splits),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would move.")]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="Files under way at once.")]
Licence = Annotated[
    str | None, typer.Option("--licence", help="For the card: an SPDX name such as cc-by-4.0.", show_default=False)
]

KEPT = "What has arrived is kept."
AGAIN = "run the same command again to go on"


def push(
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE",
            help="A store, or a folder of several; or its path below UMECACHE_HOME/stores.",
            autocompletion=completing.stores,
        ),
    ],
    url: Annotated[
        str, typer.Argument(metavar="URL", help="A folder, ssh://, s3://, gs:// or hf://datasets/ORG/NAME.")
    ],
    split: SplitOption = None,
    licence: Licence = None,
    dry_run: DryRun = False,
    jobs: Jobs = 8,
    json: Json = False,
) -> None:
    """Copy stores elsewhere, with a card. Only what is new is sent; nobody there sees half a store.

    Example:

        umecache store push vqa-v2/vit-1a2b3c4d s3://bucket/vit-1a2b3c4d

    A folder of several stores keeps its form below the URL. Kill it at any time and run it again: it goes on.
    """
    from umecache.sharing.push import push as send

    with sigterm_stops(why=KEPT, next=AGAIN):
        moved = send(
            find_folder(store),
            url,
            splits=names(split, flag="--split"),
            licence=licence,
            dry_run=dry_run,
            jobs=jobs,
            reporter=reporter(json),
        )
    _tell(moved, dry_run=dry_run, json=json)


def pull(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="A folder, http(s)://, ssh://, s3://, gs:// or hf://datasets/ORG/NAME.")
    ],
    store: Annotated[
        Path | None,
        typer.Argument(
            metavar="STORE",
            help="The folder it becomes. Default: where fuse finds it, below UMECACHE_HOME/stores.",
            show_default=False,
        ),
    ] = None,
    split: SplitOption = None,
    ids: Annotated[
        Path | None,
        typer.Option("--ids", help="Only these: a file with one id per line. The result says what it is a part of."),
    ] = None,
    dry_run: DryRun = False,
    jobs: Jobs = 8,
    json: Json = False,
) -> None:
    """Bring stores here, checked byte by byte on arrival.

    Example:

        umecache store pull hf://datasets/ORG/NAME --split val

    Kill it at any time and run it again: only what is missing moves. Until all of it is right, nothing is seen.
    """
    from umecache.sharing.pull import pull as fetch
    from umecache.sharing.urls import public

    if ids is not None and store is None:
        raise UsageError(
            "--ids makes a store of its own.", next=f"umecache store pull {public(url)} FOLDER --ids {ids}"
        )
    with sigterm_stops(why=KEPT, next=AGAIN):
        moved = fetch(
            url,
            store,
            splits=names(split, flag="--split"),
            ids=None if ids is None else _ids(ids),
            dry_run=dry_run,
            jobs=jobs,
            reporter=reporter(json),
        )
    _tell(moved, dry_run=dry_run, json=json)


def card(store: StoreArgument, licence: Licence = None, json: Json = False) -> None:
    """Print the card of a store, or of the stores of a folder: Markdown, as push puts it beside them.

    Example:

        umecache store card vqa-v2/vit-1a2b3c4d > README.md
    """
    from umecache.sharing.card import card as write
    from umecache.sharing.listing import find_remote_stores
    from umecache.sharing.remotes import FolderRemote
    from umecache.stores import open_store

    folder = find_folder(store)
    stores = {name: open_store(folder / name) for name in find_remote_stores(FolderRemote(folder), None)}
    text = write(stores, licence=licence)
    emit({"path": str(folder), "card": text}, json=json, words=lambda: typer.echo(text, nl=False))


def _ids(file: Path) -> Sequence[int] | Sequence[str]:
    """One id per line; numbers if all are."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} can't be read: {error}.", next="--ids takes a text file, one id per line.") from error
    found = list(dict.fromkeys(line for line in lines if line))
    if not found:
        raise UsageError(f"{file} names no id.", next="--ids takes a text file, one id per line.")
    try:
        return [int(name) for name in found]
    except ValueError:
        return found


def _tell(moved: Sequence[Moved], *, dry_run: bool, json: bool) -> None:
    def words() -> None:
        for each in moved:
            if not each.files:
                typer.echo(f"{each.target}: there already, nothing to move")
                continue
            verb = "would move" if dry_run else "moved"
            rest = f", {size_words(each.there)} there already" if each.there else ""
            part = f" (a part, {each.records:,} ids)" if each.subset else ""
            typer.echo(f"{each.target}{part}: {each.files:,} files, {size_words(each.bytes)} {verb}{rest}")
            typer.echo(f"  fingerprint {each.fingerprint}")

    total = sum(each.bytes for each in moved)
    emit({"dry_run": dry_run, "bytes": total, "stores": [each.as_json() for each in moved]}, json=json, words=words)
