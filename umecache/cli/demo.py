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
from umecache.errors import UsageError

if TYPE_CHECKING:
    from umecache.reporting import Reporter

IMAGES = 1000  # of both splits together
EPOCHS = 6
SAMPLE_SEED = 0
TEXT, IMAGE = "sample-text", "sample-image"
SHOWN = ("text-only", "image-only", "concat", "attention", "ume", "ume-res")  # in the panel of examples
TRAINING: Mapping[str, Any] = {"width": 96, "batch_size": 32, "lr": 2e-3, "dropout": 0.1}
_MARK = "demo.json"  # says that a folder is a demo's, and of which size
PANEL_NOTE = "Questions drawn at random among those on which the methods differ; wrong answers struck through. Seed 0."


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo writes.")] = Path("umecache-demo"),
    images: Annotated[int, typer.Option(help="Pictures to draw; about six questions are asked of each.")] = IMAGES,
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

    document, comparison = run_demo(
        out, images=images, seeds=parse_seeds(seeds), epochs=epochs, reporter=reporter(json)
    )
    emit(document, json=json, words=lambda: _say(document, comparison))


def run_demo(
    out: Path, *, images: int, seeds: tuple[int, ...], epochs: int, reporter: Reporter
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Do it all; returns the document that `--json` prints, and the comparison's.

    Raises:
        UsageError: `out` holds other files, or there are too few images.
    """
    from umecache.analysis.panel import choose_examples, example_panel
    from umecache.analysis.plot import accuracy_plot
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
    _make_data(out, images, reporter)
    clock.append(time.monotonic())
    extracted = _extract(data, stores, reporter)
    clock.append(time.monotonic())
    reporter.say(f"Stage two: {len(config.methods)} methods x {len(seeds)} seeds, {epochs} epochs each")
    comparison = compare(config, reporter).document
    clock.append(time.monotonic())

    accuracy_plot(
        comparison, out / "accuracy.png", title="The built-in sample: official VQA accuracy, held-out pictures"
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
        "plot": str(out / "accuracy.png"),
        "examples": str(out / "examples.png"),
    }
    _write_report(out / "report.md", document, comparison)
    return document, comparison


def _make_data(out: Path, images: int, reporter: Reporter) -> None:
    """The sample under `out`, unless it is there already; a demo of another size or version makes way."""
    from importlib.metadata import version

    from umecache.data.sample import check_sizes, write_sample
    from umecache.encoders.sample import WEIGHTS

    check_sizes(images, ("train", "val"))
    weights = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(WEIGHTS.glob("*.safetensors"))]
    wanted = {"images": images, "version": version("umecache"), "encoders": weights}
    mark = out / _MARK
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file.", next="umecache demo --out NEW_DIR")
    if not mark.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise UsageError(
                f"--out {out} holds other files.",
                why="Nothing of theirs is touched.",
                next="umecache demo --out NEW_DIR",
            )
        out.mkdir(parents=True, exist_ok=True)
    found = _read(mark)
    if found == {**wanted, "data": "written"}:
        reporter.say(f"The sample is in {out / 'sample'} already.")
        return
    if mark.is_file() and {**found, "data": ""} != {**wanted, "data": ""}:
        for name in ("sample", "stores", "comparison"):
            shutil.rmtree(out / name, ignore_errors=True)
    mark.write_text(json_format.dumps({**wanted, "data": "begun"}) + "\n")
    reporter.say(f"Drawing {images:,} pictures and asking about them")
    write_sample(out / "sample", images=images, seed=SAMPLE_SEED)
    mark.write_text(json_format.dumps({**wanted, "data": "written"}) + "\n")


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


def findings(comparison: Mapping[str, Any]) -> list[str]:
    """What the table says, in sentences computed from it."""
    from umecache.analysis.table import is_control

    rows = sorted(comparison["rows"], key=lambda row: -row["mean"])
    control = next(row for row in rows if is_control(row["method"]))
    fusions = [row for row in rows if not is_control(row["method"])]
    best, worst = fusions[0], fusions[-1]
    said = [
        f"Best control: {control['method']}, {control['mean']:.1f} %. Every question is asked of pictures with "
        f"different answers, so one modality alone can't do much better."
    ]
    above = [row for row in fusions if row["mean"] - row["std"] > control["mean"] + control["std"]]
    said.append(
        f"Above it by more than both spreads: {len(above)} of {len(fusions)} fusion methods, from {worst['method']} "
        f"({worst['mean']:.1f} %) to {best['method']} ({best['mean']:.1f} %)."
        if len(above) == len(fusions)
        else f"Above it by more than both spreads: {', '.join(row['method'] for row in above) or 'no fusion method'}; "
        f"not {', '.join(row['method'] for row in fusions if row not in above)}."
    )
    said.append(
        "One shared rate and a short training: a demonstration on drawn shapes, no ranking of methods; "
        "`umecache compare --lr auto` gives each its own rate."
    )
    return said


def _write_report(path: Path, document: Mapping[str, Any], comparison: Mapping[str, Any]) -> None:
    from umecache.analysis.table import markdown_table

    seconds, asked = document["seconds"], comparison["questions"]
    megabytes = sum(store["bytes"] for store in document["stores"]) / 1e6
    heads = sum(len(row["seeds"]) for row in comparison["rows"])
    lines = [
        "# The built-in sample: fusion methods compared",
        "",
        markdown_table(comparison, only=_columns(comparison)),
        "",
        *(f"- {line}" for line in document["findings"]),
        "",
        "![Accuracy of each method, controls grey](accuracy.png)",
        "",
        "![Questions with predictions, wrong ones struck through](examples.png)",
        "",
        f"Stage one cached {megabytes:.1f} MB of hidden states of two frozen encoders, each trained on its own "
        f"modality only. Stage two trained {heads} heads on {asked['trained_on']:,} questions in {seconds['training']:.0f} s. "
        f"Accuracy is that of the official VQA evaluator ({comparison['protocol']}), mean and standard deviation over "
        f"seeds, on {asked['eval']:,} questions about pictures that training never saw. Everything else about the "
        f"runs is in `{Path(document['comparison']).name}/`.",
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


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
    for name in ("report", "plot", "examples", "data", "comparison"):
        shown.print(f"{name + ':':<12}{document[name]}", markup=False, soft_wrap=True)
    seconds = document["seconds"]
    told = ", ".join(f"{part} {took:.0f}" for part, took in seconds.items() if part != "all")
    shown.print(f"{seconds['all']:.0f} s in all ({told})", markup=False)
