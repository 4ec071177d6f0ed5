"""`umecache score`: the official VQA accuracy of any results file.

umecache score results.json --data vqa-v2 --split val
"""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from umecache.cli import completing
from umecache.cli.output import emit, reporter
from umecache.errors import UsageError

if TYPE_CHECKING:
    from umecache.data.scoring import Scores


def score(
    results: Annotated[Path, typer.Argument(help='A results file: [{"question_id": 1, "answer": "yes"}, ...].')],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="A folder, or a name under UMECACHE_HOME/data. Default: vqa-v2.",
            autocompletion=completing.data,
        ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="The split that the results are for.", autocompletion=completing.splits)
    ] = "val",
    protocol: Annotated[
        str,
        typer.Option("--protocol", help="official-2021, official-2016 or thesis (which gives more than the official)."),
    ] = "official-2021",
    per_question: Annotated[
        Path | None, typer.Option("--per-question", help="Write the score of each question to this JSON file.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Score questions without an answer 0, instead of refusing.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Score a results file as the official VQA evaluator does. Needs no images.

    Example:

        umecache score results.json --data vqa-v2 --split val
    """
    from umecache.data.dataset import open_dataset
    from umecache.data.files import write_text
    from umecache.data.scoring import read_results, score_predictions

    if per_question is not None and per_question.resolve() == results.resolve():
        raise UsageError("--per-question names the results file itself.", next="--per-question scores.json")
    predictions = read_results(results)
    scores = score_predictions(
        predictions,
        open_dataset(data).split(split, reporter=reporter(json)),
        protocol=protocol,
        allow_missing=allow_missing,
        source=str(results),
    )
    if per_question is not None:
        write_text(per_question, json_format.dumps(scores.per_question, indent=0) + "\n")
    emit(scores.to_json(), json=json, words=lambda: _words(scores))


def _words(scores: Scores) -> None:
    missing = f", {scores.missing:,} of them missing and scored 0" if scores.missing else ""
    typer.echo(f"{scores.overall:.2f} % ({scores.protocol}, {scores.questions:,} questions{missing})")
    for title, groups in (("answer type", scores.per_answer_type), ("question type", scores.per_question_type)):
        width = max(map(len, groups))
        typer.echo(f"\nper {title}")
        for name, accuracy in sorted(groups.items()):
            typer.echo(f"  {name:<{width}}  {accuracy:6.2f}")
