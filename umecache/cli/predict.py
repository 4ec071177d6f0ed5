"""`umecache predict`: a trained head answers questions about an image file, or a whole split from its stores.

umecache predict runs/daquar/ume-20260101-120000 --image kitchen.jpg --question "what is on the table?"
umecache predict runs/vqa-v2/ume-20260101-120000 --split test-dev
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from umecache.cli import completing
from umecache.cli.output import emit, reporter
from umecache.errors import UsageError
from umecache.home import find_run

if TYPE_CHECKING:
    from umecache.training.answering import Answerer, Guess


def predict(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A run's folder, or its path below UMECACHE_HOME/runs.", autocompletion=completing.run
        ),
    ],
    question: Annotated[
        list[str] | None,
        typer.Option("--question", "-q", help="A question, or any text; repeatable: several about the image."),
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Image file. Not needed by a head that reads text alone.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Sound file, for a head that reads sounds: WAV, FLAC.")] = None,
    seed: Annotated[int | None, typer.Option(help="Which head, where the run has several. Default: its first.")] = None,
    top: Annotated[int, typer.Option(help="Answers to show for each question.")] = 5,
    split: Annotated[
        str | None,
        typer.Option(
            help="Answer every question of this split from its stores, into a results file.",
            autocompletion=completing.splits,
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Of the split. Default: the run's data.", autocompletion=completing.data)
    ] = None,
    features: Annotated[
        list[str] | None, typer.Option(help="A store of the split, where it does not lie beside the run's; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Results file. Default: results_SPLIT.json in the run.")] = None,
    weights: Annotated[
        list[str] | None, typer.Option(help="MODEL=PATH, where an encoder's weights are not found; repeatable.")
    ] = None,
    devices: Annotated[str, typer.Option(help="auto, cpu, or a GPU's number.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Answer new questions: encoders as the run's stores declare them, then the trained head.

    Example:

        umecache predict runs/daquar/ume-20260101-120000 --image kitchen.jpg --question "what is on the table?"
        umecache predict daquar/ume-20260101-120000 --split val --out answers.json

    The encoders' weights, tokenizer and preprocessing are compared with what the stores were made with; anything else
    is refused. An image is encoded once, however many questions are asked about it.

    With --split no encoder is needed: `umecache predict RUN --split test-dev` writes what the challenge server takes,
    every question of the split once.
    """
    run = find_run(run)  # first, since what follows loads torch
    if top < 1:
        raise UsageError(f"--top {top}: give a whole number from 1.")
    if split is not None:
        if question or image:
            raise UsageError("--split answers the split's own questions.", next="leave out --question and --image")
        _answer_split(run, split, seed=seed, data=data, features=features, out=out, devices=devices, json=json)
        return
    from umecache.extraction.devices import parse_devices
    from umecache.training.answering import Answerer
    from umecache.training.config import parse_pairs
    from umecache.training.runs import load_run

    said = parse_pairs("--weights", weights or ())
    loaded = load_run(run, seed=seed, device=parse_devices(devices)[0])
    with reporter(json).task("loading encoders", None):
        answerer = Answerer(loaded, weights=said)
    guesses = answerer.ask(question or (), image, audio=audio, top=top)
    document = _document(answerer, question or [None], image, audio, guesses)
    emit(document, json=json, words=lambda: _say(document))


def _answer_split(
    folder: Path,
    split: str,
    *,
    seed: int | None,
    data: str | None,
    features: list[str] | None,
    out: Path | None,
    devices: str,
    json: bool,
) -> None:
    from umecache.api.calls import predict_split
    from umecache.extraction.devices import parse_devices
    from umecache.training.config import parse_pairs
    from umecache.training.runs import load_run

    stores = parse_pairs("--features", features or ())
    run = load_run(folder, seed=seed, device=parse_devices(devices)[0])
    found = predict_split(run, split, data=data, features=stores, out=out, reporter=reporter(json))
    document = {
        "run": str(run.path),
        "method": run.facts["method"],
        "split": split,
        "questions": len(found.answers),
        "accuracy": found.accuracy,
        "results": str(found.results),
    }
    scored = "" if found.accuracy is None else f", accuracy {found.accuracy:.2f}"
    emit(document, json=json, words=lambda: typer.echo(f"{len(found.answers):,} answers{scored}: {found.results}"))


def _document(
    answerer: Answerer,
    questions: Sequence[str | None],
    image: Path | None,
    audio: Path | None,
    guesses: list[list[Guess]],
) -> dict[str, Any]:
    return {
        "run": str(answerer.run.path),
        "method": answerer.run.facts["method"],
        "image": None if image is None else str(image),
        **({} if audio is None else {"audio": str(audio)}),
        "answers": [
            {
                "question": question,
                "answer": best[0].answer,
                "probability": best[0].probability,
                "top": [{"answer": guess.answer, "probability": guess.probability} for guess in best],
            }
            for question, best in zip(questions, guesses, strict=True)
        ],
        "seconds": answerer.seconds,
    }


def _say(document: dict[str, Any]) -> None:
    for entry in document["answers"]:
        typer.echo(entry["question"] or document["image"] or document.get("audio"))
        for guess in entry["top"]:
            typer.echo(f"  {100 * guess['probability']:5.1f} %  {guess['answer']}")
    typer.echo(", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in document["seconds"].items()))
