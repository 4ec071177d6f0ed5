"""`umecache demo`: the whole job on the built-in sample, offline.

    umecache demo                  # about two minutes on two cores

    umecache-demo/sample/          questions, answers, pictures: a VQA-format data folder
    umecache-demo/stores/          hidden states of both encoders (stage one)
    umecache-demo/comparison/      a run folder per method, compare.json, table.csv (stage two)
    umecache-demo/report.md        the table and what it says; accuracy.png, examples.png

Run again: what is there is used, and the comparison is made anew. Asked for another size, it starts afresh.
"""

from __future__ import annotations

import hashlib
import json as json_format
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from umecache.cli.output import console, emit, reporter
from umecache.cli.stopping import sigterm_stops
from umecache.errors import UsageError

if TYPE_CHECKING:
    from umecache.reporting import Reporter

IMAGES = 800  # of both splits together
FEWER_IMAGES = 400  # where the pair stage has no compiled kernel, which is about eight times faster
EPOCHS = 5
SAMPLE_SEED = 0
TEXT, IMAGE = "sample-text", "sample-image"
SHOWN = ("text-only", "image-only", "concat", "attention", "ume", "ume-res")  # in the panel of examples
TRAINING: Mapping[str, Any] = {"width": 96, "batch_size": 32, "lr": 3e-3, "dropout": 0.1}
_MARK = "demo.json"  # says that a folder is a demo's, and of which size
PANEL_NOTE = "Questions drawn at random among those on which the methods differ; wrong answers struck through. Seed 0."


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo writes.")] = Path("umecache-demo"),
    images: Annotated[
        int | None, typer.Option(help="Pictures to draw, six questions each. Default: 800; 400 without a C compiler.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="3: that many. 0,1,7: these.")] = "3",
    epochs: Annotated[int, typer.Option(help="Passes over the train questions.")] = EPOCHS,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """The whole job on the built-in sample, offline, in under three minutes.

    Example:

        umecache demo --out umecache-demo

    Draws pictures and asks questions about them, caches two small encoders (stage one), trains every fusion method and
    two controls that see one modality only (stage two), and writes a table, a plot and a panel of examples.
    """
    from umecache.training.config import parse_seeds

    with sigterm_stops(next="run the same command again to go on"):
        document, comparison = run_demo(
            out, images=images, seeds=parse_seeds(seeds), epochs=epochs, reporter=reporter(json)
        )
    emit(document, json=json, words=lambda: _say(document, comparison))


def run_demo(
    out: Path, *, images: int | None, seeds: tuple[int, ...], epochs: int, reporter: Reporter
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Do it all; returns the document that `--json` prints, and the comparison's.

    Raises:
        UsageError: `out` holds other files, or there are too few images.
    """
    from umecache.analysis.page import write_all
    from umecache.analysis.panel import choose_examples, example_panel
    from umecache.analysis.plot import accuracy_plot
    from umecache.analysis.report import findings, write_report
    from umecache.data.dataset import open_dataset
    from umecache.data.results import read_results
    from umecache.training.compare import compare
    from umecache.training.config import CompareConfig

    clock = [time.monotonic()]
    data, stores, runs = out / "sample", out / "stores", out / "comparison"
    config = CompareConfig(
        data=str(data),
        text=(str(stores / TEXT),),
        image=(str(stores / IMAGE),),
        seeds=seeds,
        epochs=epochs,
        out=str(runs),
        overwrite=True,
        **TRAINING,
    )
    _make_data(out, _affordable(reporter) if images is None else images, reporter)
    clock.append(time.monotonic())
    extracted = _extract(data, stores, reporter)
    clock.append(time.monotonic())
    reporter.say(f"Stage two: {len(config.methods)} methods x {len(seeds)} seeds, {epochs} epochs each")
    compare(config, reporter)
    comparison = write_all(runs)
    clock.append(time.monotonic())

    accuracy_plot(
        comparison, out / "accuracy.png", title="The built-in sample: VQA accuracy on pictures not trained on"
    )
    split = open_dataset(data).split("val")
    answers = {row["method"]: read_results(row["seeds"][0]["results"]) for row in comparison["rows"]}
    shown = {method: answers[method] for method in SHOWN if method in answers}
    example_panel(choose_examples(split, shown, count=8), out / "examples.png", note=PANEL_NOTE)
    clock.append(time.monotonic())
    parts = ("data", "extraction", "training", "pictures")
    document: dict[str, Any] = {
        "out": str(out),
        "rows": comparison["rows"],
        "baselines": comparison["baselines"],
        "findings": findings(comparison),
        "stores": extracted,
        "seconds": {
            **{part: round(b - a, 1) for part, a, b in zip(parts, clock[:-1], clock[1:], strict=True)},
            "all": round(clock[-1] - clock[0], 1),
        },
        "data": str(data),
        "comparison": str(runs),
        "report": str(out / "report.md"),
        "page": comparison["html"],
        "plot": str(out / "accuracy.png"),
        "examples": str(out / "examples.png"),
    }
    write_report(
        out / "report.md",
        comparison,
        title="The built-in sample: fusion methods compared",
        columns=_columns(comparison),
        pictures={"Accuracy of each method, controls grey": "accuracy.png", PANEL_NOTE: "examples.png"},
        notes=[*document["findings"], *_notes(document, comparison)],
    )
    return document, comparison


def _make_data(out: Path, images: int, reporter: Reporter) -> None:
    """The sample under `out`, unless it is there already; a demo of another size or version makes way."""
    from umecache.data.sample import check_sizes, write_sample

    check_sizes(images, ("train", "val"))
    mark = out / _MARK
    try:
        out.mkdir(parents=True, exist_ok=True)
        foreign = not mark.is_file() and any(out.iterdir())
    except OSError as error:
        raise UsageError(
            f"--out {out} can't be made.",
            why=error.strerror or type(error).__name__,
            next="umecache demo --out NEW_DIR",
        ) from error
    if foreign:
        raise UsageError(
            f"--out {out} holds other files.", why="Nothing of theirs is touched.", next="umecache demo --out NEW_DIR"
        )
    found, wanted = _read(mark), {"images": images, "made_by": _made_by()}
    if found == {**wanted, "data": "written"}:
        reporter.say(f"The sample is in {out / 'sample'} already")
        return
    if any(found.get(key) != value for key, value in wanted.items()):
        for name in ("sample", "stores", "comparison"):
            shutil.rmtree(out / name, ignore_errors=True)
    mark.write_text(json_format.dumps({**wanted, "data": "begun"}) + "\n")
    reporter.say(f"Drawing {images:,} pictures and asking about them")
    write_sample(out / "sample", images=images, seed=SAMPLE_SEED)
    mark.write_text(json_format.dumps({**wanted, "data": "written"}) + "\n")


def _made_by() -> str:
    """Hash of what decides the sample and its features, so that a newer version does not go on with an older's."""
    from umecache.data import sample, scene_questions, scenes
    from umecache.encoders.sample import WEIGHTS

    sources = [Path(str(module.__file__)) for module in (sample, scene_questions, scenes)]
    digest = hashlib.sha256()
    for path in [*sources, *sorted(WEIGHTS.glob("*.safetensors"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _affordable(reporter: Reporter) -> int:
    """How many pictures fit into three minutes here."""
    import torch

    from umecache.fusion.pairs import implementation

    if torch.cuda.is_available():
        return IMAGES
    name, reason = implementation(torch.device("cpu"), torch.float32)
    if name == "cpu":
        return IMAGES
    reporter.say(
        f"Pair methods run in plain PyTorch here ({reason}), so a smaller sample is drawn; --images says another"
    )
    return FEWER_IMAGES


def _read(mark: Path) -> dict[str, Any]:
    try:
        found = json_format.loads(mark.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _extract(data: Path, stores: Path, reporter: Reporter) -> list[dict[str, Any]]:
    """Stage one for both encoders, through the same door as `umecache extract`."""
    from umecache.extraction.config import ExtractConfig, ModelRequest
    from umecache.extraction.extract import extract

    reporter.say("Stage one: each encoder runs once over its own modality")
    summaries = []
    for name in (TEXT, IMAGE):
        summaries += extract(
            ExtractConfig(models=(ModelRequest(name=name),), data=str(data), store=stores / name), reporter
        )
    kept = ("path", "model", "split", "records", "tokens", "dim", "bytes", "failed", "seconds")
    return [{key: getattr(summary, key) for key in kept} for summary in summaries]


def _notes(document: Mapping[str, Any], comparison: Mapping[str, Any]) -> list[str]:
    """What the report adds to the findings."""
    megabytes = sum(store["bytes"] for store in document["stores"]) / 1e6
    heads = sum(len(row["seeds"]) for row in comparison["rows"])
    return [
        f"Stage one cached {megabytes:.1f} MB of hidden states of two small frozen encoders, each trained on its own "
        f"modality only. Stage two trained {heads} heads in {document['seconds']['training']:.0f} s.",
        f"Runs, weights and the full table are in `{Path(document['comparison']).name}/`.",
    ]


def _columns(comparison: Mapping[str, Any]) -> list[str]:
    """What the demo shows of the table; the encoders and the rate are the same in every row."""
    from umecache.training.table import columns

    return [name for name in columns(comparison) if name not in ("text", "image", "lr")]


def _say(document: Mapping[str, Any], comparison: Mapping[str, Any]) -> None:
    from umecache.analysis.table import rich_table

    shown = console()
    shown.print(rich_table(comparison, only=_columns(comparison)))
    for line in document["findings"]:
        shown.print(f"- {line}", markup=False)
    shown.print()
    for name in ("report", "page", "plot", "examples", "data", "comparison"):
        shown.print(f"{name + ':':<12}{document[name]}", markup=False, soft_wrap=True)
    seconds = document["seconds"]
    told = ", ".join(f"{part} {took:.0f}" for part, took in seconds.items() if part != "all")
    shown.print(f"{seconds['all']:.0f} s in all ({told})", markup=False)
