"""`umecache data`: download a data set, look into a data folder, hold out a part of a split.

umecache data get vqa-v2 --split train,val
umecache data sample sample-sound --sound
umecache data info vqa-v2
umecache data split vqa-v2 --by image --fraction 0.1 --seed 0
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from umecache.cli import completing
from umecache.cli.output import emit, reporter
from umecache.cli.parse import names
from umecache.errors import UsageError

if TYPE_CHECKING:
    from umecache.data.download import Fetched
    from umecache.data.info import DataInfo

app = typer.Typer(help="Download data sets, look into them, hold out a part.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="The data set: vqa-v2.", autocompletion=completing.data)],
    split: Annotated[
        str,
        typer.Option("--split", help="Splits to get, of train, val, test, test-dev.", autocompletion=completing.splits),
    ] = "train,val",
    parts: Annotated[
        str, typer.Option("--parts", help="What to get of them: questions, annotations, images.")
    ] = "questions,annotations,images",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to put it in; by default UMECACHE_HOME/data/NAME.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="Folder of a mirror that has the archives under their names.")
    ] = None,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Keep the zip files.")] = False,
    json: Json = False,
) -> None:
    """Download a data set, with resume and count checks. Train and val of VQA v2 with images: 20 GB.

    Example:

        umecache data get vqa-v2 --split train,val --parts questions,annotations
    """
    from umecache.data import download
    from umecache.data.fetch import FetchOptions

    folder, fetched = download.get(
        name,
        splits=names(split, flag="--split") or (),
        parts=names(parts, flag="--parts") or (),
        out=out,
        base_url=base_url,
        keep_archives=keep_archives,
        options=FetchOptions(reporter=reporter(json)),
    )
    document = {"name": name, "folder": str(folder), "archives": [entry.to_json() for entry in fetched]}
    emit(document, json=json, words=lambda: _fetched_words(folder, fetched))


@app.command()
def sample(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to write it to; files of its names are replaced.")
    ],
    sound: Annotated[
        bool, typer.Option("--sound", help="With sounds: labelled items that need text, image and audio.")
    ] = False,
    images: Annotated[
        int | None, typer.Option("--images", help="Pictures of all splits. Default: 1000, with sound 2000.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, other pictures.")] = 0,
    json: Json = False,
) -> None:
    """Write the built-in sample: drawn pictures and questions about them, offline.

    Example:

        umecache data sample sample --images 300
        umecache data sample sample-sound --sound

    With --sound, a signal says which shape is meant, and no two of the three modalities suffice.
    """
    from umecache.data.sample import write_sample
    from umecache.data.sample_sound import write_sound_sample

    count = images if images is not None else 2000 if sound else 1000
    try:
        (write_sound_sample if sound else write_sample)(folder, images=count, seed=seed)
    except OSError as error:
        raise UsageError(f"{folder} can't be written.", why=error.strerror or type(error).__name__) from error
    emit({"folder": str(folder), "images": count, "sound": sound}, json=json, words=lambda: typer.echo(str(folder)))


@app.command()
def info(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DIR",
            help="A folder, or a name under UMECACHE_HOME/data. Default: vqa-v2.",
            autocompletion=completing.data,
        ),
    ] = None,
    classes: Annotated[
        int, typer.Option("--classes", min=0, help="Answers in the vocabulary that coverage is about; 0: all.")
    ] = 3129,
    min_count: Annotated[
        int | None, typer.Option("--min-count", min=1, help="Only answers of at least so many train questions.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what a data folder holds: questions, images, missing images, answers, answer coverage.

    Example:

        umecache data info vqa-v2 --classes 1000
    """
    from umecache.data.dataset import open_dataset
    from umecache.data.info import describe

    found = describe(open_dataset(data), classes=classes or None, min_count=min_count, reporter=reporter(json))
    emit(found.to_json(), json=json, words=lambda: _info_words(found))


@app.command()
def split(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="Data folder, or a name under UMECACHE_HOME/data.", autocompletion=completing.data
        ),
    ],
    by: Annotated[
        str, typer.Option("--by", help="What to hold out: image (and all its questions) or question.")
    ] = "image",
    fraction: Annotated[float, typer.Option("--fraction", help="How much to hold out, between 0 and 1.")] = 0.1,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another choice.")] = 0,
    source: Annotated[
        str, typer.Option("--split", help="The split to divide.", autocompletion=completing.splits)
    ] = "train",
    parts: Annotated[str, typer.Option("--names", help="Names of the two parts.")] = "train,heldout",
    out: Annotated[
        Path | None, typer.Option("--out", help="The new folder; by default one under UMECACHE_HOME/data.")
    ] = None,
    json: Json = False,
) -> None:
    """Hold out images (or questions) of a split, in a new data folder that refers to the images where they are.

    Example:

        umecache data split vqa-v2 --by image --fraction 0.1 --seed 0
    """
    from umecache.data.dataset import open_dataset
    from umecache.data.split import divide_split

    pair = names(parts, flag="--names") or ()
    if len(pair) != 2:
        raise UsageError(f"--names {parts!r} are not two names.", next="--names train,heldout")
    folder, made = divide_split(
        open_dataset(data),
        split=source,
        names=(pair[0], pair[1]),
        by=by,
        fraction=fraction,
        seed=seed,
        out=out,
        reporter=reporter(json),
    )
    document = {
        "folder": str(folder),
        "splits": {part.name: {"questions": part.questions, "images": part.images} for part in made},
    }

    def words() -> None:
        typer.echo(str(folder))
        for part in made:
            typer.echo(f"  {part.name}: {part.questions:,} questions on {part.images:,} images")

    emit(document, json=json, words=words)


def _fetched_words(folder: Path, fetched: list[Fetched]) -> None:
    typer.echo(str(folder))
    for entry in fetched:
        counts = ", ".join(f"{name}: {count:,}" for name, count in entry.contents.items())
        typer.echo(f"  {entry.archive} {entry.status}: {counts}")


def _info_words(found: DataInfo) -> None:
    typer.echo(f"{found.name} ({found.folder})")
    columns: tuple[str, ...] = ("split", "questions", "images", "missing", "answers", "coverage")
    sounds = any(one.sounds for one in found.splits.values())
    columns += ("sounds", "missing") if sounds else ()
    rows = [
        (
            name,
            f"{one.questions:,}",
            f"{one.images:,}",
            f"{one.images_missing:,}",
            f"{one.answers:,}" if one.answers else "-",
            f"{one.coverage:.2f} %" if one.coverage is not None else "-",
            *((f"{one.sounds:,}", f"{one.sounds_missing:,}") if sounds else ()),
        )
        for name, one in found.splits.items()
    ]
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        typer.echo("  " + "  ".join(cells))
    if found.definition:
        typer.echo(f"coverage: {found.definition}")
