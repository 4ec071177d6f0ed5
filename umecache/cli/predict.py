"""`umecache predict`: a trained head answers questions about an image file.

umecache predict runs/daquar/ume-20260101-120000 --image kitchen.jpg --question "what is on the table?"
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from umecache.cli.output import emit, reporter
from umecache.errors import UsageError

if TYPE_CHECKING:
    from umecache.training.answering import Answerer, Guess


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder of fuse or compare.")],
    question: Annotated[
        list[str] | None, typer.Option("--question", "-q", help="Or any text; repeatable: several about the image.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Image file. Not needed by a head that reads text alone.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Sound file, for a head that reads sounds: WAV, FLAC.")] = None,
    seed: Annotated[int | None, typer.Option(help="Which head, where the run has several. Default: its first.")] = None,
    top: Annotated[int, typer.Option(help="Answers to show for each question.")] = 5,
    weights: Annotated[
        list[str] | None, typer.Option(help="MODEL=PATH, where an encoder's weights are not found; repeatable.")
    ] = None,
    devices: Annotated[str, typer.Option(help="auto, cpu, or a GPU's number.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Answer new questions: encoders as the run's stores declare them, then the trained head.

    Example:

        umecache predict runs/daquar/ume-20260101-120000 --image kitchen.jpg --question "what is on the table?"

    The encoders' weights, tokenizer and preprocessing are compared with what the stores were made with; anything else
    is refused. An image is encoded once, however many questions are asked about it.
    """
    if top < 1:
        raise UsageError(f"--top {top}: give a whole number from 1.")
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
