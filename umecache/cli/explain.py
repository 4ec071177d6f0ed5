"""`umecache explain`: pictures of where trained heads look, and how far the pictures can be believed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from umecache.cli import completing
from umecache.cli.output import console, emit, reporter
from umecache.cli.parse import names
from umecache.errors import UsageError
from umecache.home import find_run

if TYPE_CHECKING:
    from umecache.analysis.looks import Head
    from umecache.data.dataset import Question

OUT = "umecache-explain"
_MEASURED = ("deletion", "insertion", "random", "gain")


def explain(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Folders of runs or of a comparison, or their paths below UMECACHE_HOME/runs.",
            autocompletion=completing.run,
        ),
    ],
    questions: Annotated[str | None, typer.Option(help="Question ids, comma-separated. Default: one image's.")] = None,
    image: Annotated[int | None, typer.Option(help="Id of the image to ask about. Default: one is drawn.")] = None,
    limit: Annotated[int, typer.Option(help="Questions about the image.", min=1)] = 3,
    draw: Annotated[int, typer.Option(help="Another number draws another image.", min=0)] = 0,
    seed: Annotated[int | None, typer.Option(help="Which head, where runs have several. Default: the first.")] = None,
    answer: Annotated[str | None, typer.Option(help="Explain this answer. Default: the one each head gives.")] = None,
    right: Annotated[bool, typer.Option("--right", help="Explain the right answer.")] = False,
    maps: Annotated[str, typer.Option(help="gradcam, attention, pairs; comma-separated: a row for each.")] = "gradcam",
    faithfulness: Annotated[int, typer.Option(help="Questions to measure faithfulness on.", min=0)] = 16,
    data: Annotated[
        str | None,
        typer.Option(help="Where the data are now. Default: where they were.", autocompletion=completing.data),
    ] = None,
    features: Annotated[list[str] | None, typer.Option(help="NAME=STORE, where a store has moved; repeatable.")] = None,
    weights: Annotated[
        list[str] | None, typer.Option(help="MODEL=PATH: the text encoder's files, for its words; repeatable.")
    ] = None,
    devices: Annotated[str, typer.Option(help="auto, cpu, or a GPU's number.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for explain.png, .svg, .pdf and .json.")] = Path(OUT),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Where trained heads look: heat maps over the picture, heads in rows, questions in columns.

    Example:

        umecache explain runs/mini/runs/concat runs/mini/runs/ume --limit 3

    Grad-CAM on the cached tokens: no encoder is run. Below each picture stands what the head answers, struck through
    where it is wrong, and how faithful the map is (deletion and insertion curves against random orders).
    """
    runs = [find_run(each) for each in runs]  # first, since what follows loads torch
    from umecache.analysis.explain import explain as run
    from umecache.analysis.figures import save
    from umecache.analysis.looks import PREDICTED, RIGHT, open_heads
    from umecache.analysis.maps import KINDS
    from umecache.data.files import write_text
    from umecache.errors import UnknownName
    from umecache.extraction.devices import parse_devices
    from umecache.training.config import parse_pairs

    if answer is not None and right:
        raise UsageError("--answer and --right name two answers.", next="one of them")
    kinds = names(maps, flag="--maps") or ()
    for kind in kinds:
        if kind not in KINDS:
            raise UnknownName("map", kind, KINDS, listing="umecache explain --help")
    stores = parse_pairs("--features", features or ())
    heads = open_heads(runs, seed=seed, device=parse_devices(devices)[0], data=data, features=stores)
    chosen = _questions(heads, questions, image, limit, draw)
    document, figure = run(
        heads,
        chosen,
        kinds=kinds,
        target=RIGHT if right else answer or PREDICTED,
        sample=faithfulness,
        weights=parse_pairs("--weights", weights or ()),
        reporter=reporter(json),
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        save(figure, out, "explain")
    except OSError as error:
        raise UsageError(f"--out {out} can't be written.", why=error.strerror or type(error).__name__) from error
    document = {"pictures": {kind: str(out / f"explain.{kind}") for kind in ("png", "svg", "pdf")}, **document}
    write_text(out / "explain.json", _text(document))
    emit(document, json=json, words=lambda: _say(document))


def _questions(heads: list[Head], ids: str | None, image: int | None, limit: int, draw: int) -> list[Question]:
    from umecache.analysis.explain import choose_questions, questions_by_id

    if ids is None:
        return choose_questions(heads, count=limit, image=image, draw=draw)
    if image is not None:
        raise UsageError("--questions and --image both choose questions.", next="one of them")
    try:
        numbers = [int(part) for part in names(ids, flag="--questions") or ()]
    except ValueError:
        raise UsageError(f"--questions {ids!r}: give question ids, comma-separated.") from None
    return questions_by_id(heads[0].inputs.split, list(dict.fromkeys(numbers)))


def _text(document: dict[str, Any]) -> str:
    import json

    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _say(document: dict[str, Any]) -> None:
    from rich.table import Table

    shown = console()
    if document["sample"]:
        table = Table(title=f"Faithfulness, means over {document['sample']} questions")
        for name in ("run", "map", *_MEASURED):
            table.add_column(name, justify="left" if name in ("run", "map") else "right")
        for row in document["faithfulness"]:
            table.add_row(row["run"], row["kind"], *(_figure(row[name]) for name in _MEASURED))
        shown.print(table)
    for line in document["notes"]:
        shown.print(f"- {line}", markup=False)
    shown.print(f"picture: {document['pictures']['png']} (the same as .svg and .pdf)", markup=False, soft_wrap=True)


def _figure(told: dict[str, float | None] | None) -> str:
    if told is None:
        return "–"
    return f"{told['mean']:.3f}" + ("" if told["error"] is None else f" ± {told['error']:.3f}")
