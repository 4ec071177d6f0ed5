"""The report of a comparison: one HTML file that needs nothing else, the same as Markdown and LaTeX, tables, figures.

    document = write_all(Path("runs/vqa-v2/compare-20260101-120000"))

    report.html      everything, with example panels; no script, no request
    report.md        text and tables
    report.tex       text, tables (booktabs), and the figures
    tables/*.csv     plain numbers
    figures/*        svg, pdf, png
    compare.json     what all of it was made from

Every text that comes from data or from settings is escaped.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from umecache.analysis.control import control_findings, control_table, measure_control
from umecache.analysis.evidence import answers_of, local, read_document, with_statistics
from umecache.analysis.example_html import SHUFFLED, example_note, example_panels
from umecache.analysis.figures import (
    accuracy_figure,
    cost_figure,
    curves_figure,
    differences_figure,
    inline_svg,
    save,
    tokens_figure,
)
from umecache.analysis.growth import caption as growth_caption
from umecache.analysis.growth import counted_growth, growth_figure, growth_table
from umecache.analysis.heterogeneity import SAMPLE, measure_rows
from umecache.analysis.latex import latex_command, latex_escape, latex_items, latex_prose
from umecache.analysis.measured_cost import read as read_measured_cost
from umecache.analysis.panel import Example, choose_examples, example_panel
from umecache.analysis.provenance import command, provenance, sources
from umecache.analysis.report import findings
from umecache.analysis.sections import costs, labels, sections
from umecache.analysis.statistics import ROUNDS
from umecache.analysis.tables import Table, escape, markdown_escape, prose
from umecache.data.dataset import Split, open_dataset
from umecache.data.files import clear_temporary, write_text
from umecache.training.table import remarks

_PANELS = 8  # example pictures

_CAPTIONS = {
    "accuracy": "Strokes: means; bars: 95 % intervals over images and seeds; rings: single seeds; grey: controls, "
    "which see one modality only.",
    "differences": "Filled: below 0.05 after Holm's correction; bars: 95 % intervals, not corrected.",
    "cost": "Up and to the left is better. The line joins the rows that none of the same cost or less beats.",
    "tokens": "Hollow: tokens as projected; filled: behind the joint stage, where a method has one. Bars: 95 % "
    "intervals over seeds, of these questions. Dotted: no difference.",
    "curves": "Mean over seeds; the best rows first.",
}
_TITLES = {"growth": "Cost against N", "curves": "Learning curves"}  # of figures that have no table of that name


def write_all(
    folder: Path,
    *,
    data: str | None = None,
    baseline: str | None = None,
    control: Path | None = None,
    rounds: int = ROUNDS,
    figure_files: bool = True,
    tokens_of: int = SAMPLE,
) -> dict[str, Any]:
    """Compute the statistics of a finished comparison and write its report; return the new document.

    Args:
        folder: of the comparison.
        data: where its data are; None: where they were.
        baseline: what differences are taken to; None: as in the report before; else the first that is no control.
        control: folder of the same comparison with images exchanged; None: as in the report before.
        rounds: of the bootstrap.
        figure_files: write `figures/` too; the page has them in any case.
        tokens_of: questions whose tokens are measured (`heterogeneity.py`); 0: none. Where the stores are gone none
            are either, and the report says so.

    Raises:
        UmecacheError: no comparison, files that are damaged, data that are gone or others.
    """
    document = read_document(folder)
    baseline = baseline or (document.get("statistics") or {}).get("baseline")
    split = open_dataset(data or document["asked"]["data"]).split(
        document["eval_split"], limit=document["asked"].get("limit")
    )
    document = with_statistics(document, folder, split, baseline=baseline, rounds=rounds)
    if control is not None:
        document["control"] = measure_control(document, folder, split, control, rounds=rounds)
    said = [*findings(document), *control_findings(document)]
    document |= {"html": str(folder / "report.html"), "findings": said}
    document["provenance"] = provenance(document, folder)
    document["learning"] = [
        {"row": name, "epochs": _history(document, folder, row)}
        for name, row in zip(labels(document), document["rows"], strict=True)
    ]
    document["heterogeneity"] = measure_rows(document, folder, split, sample=tokens_of)
    document["measured_cost"] = read_measured_cost(folder)
    document |= {"costs": costs(document), "counted_growth": counted_growth(document)}
    document["command"] = command(document)
    examples = _examples(document, folder, split)
    document["examples"] = [_told(example) for example in examples]
    figures, tables = _figures(document), _tables(document)
    (folder / "tables").mkdir(exist_ok=True)
    for place in (folder, folder / "tables", folder / "figures"):
        clear_temporary(place)
    for table in tables:
        table.write_csv(folder / "tables" / f"{table.key}.csv")
    # Before the files: drawing a figure settles its layout a little more each time.
    write_text(folder / "report.html", html(document, tables, figures, examples))
    if figure_files:
        note = SHUFFLED if document["asked"].get("shuffle_images") else None
        _save_all(folder / "figures", figures, examples, note)
    write_text(folder / "report.md", markdown(document, tables))
    write_text(folder / "report.tex", latex(document, tables, _named_files(figures, tables, document, examples)))
    write_text(folder / "compare.json", json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return document


def html(
    document: Mapping[str, Any], tables: Sequence[Table], figures: Mapping[str, Figure], examples: Sequence[Example]
) -> str:
    """The page."""
    title = title_of(document)
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="lead">{escape(lead(document))}</p>']
    parts += [f'<p class="warn">{prose(line)}</p>' for line in document.get("warnings") or ()]
    links = [f'<a href="#{table.key}">{escape(table.title)}</a>' for table in tables]
    parts.append(f"<nav>{' '.join(links)}</nav>")
    parts.append("<ul>" + "".join(f"<li>{prose(line)}</li>" for line in document["findings"]) + "</ul>")
    captions = _captions(document)
    for table in tables:
        parts.append(f'<h2 id="{table.key}">{escape(table.title)}</h2>')
        parts += [_drawn(figures[name], name, captions[name]) for name in _beside(table, tables) if name in figures]
        parts.append(table.html())
        if table.key == "agreement" and examples:
            parts.append('<h2 id="examples">Examples</h2>' + example_panels(examples, example_note(document)))
    parts.append("<h2>Read before you quote</h2><ul>")
    parts += [f"<li>{prose(line)}</li>" for line in cautions(document)]
    parts.append(f"</ul><h2>Again</h2><pre>{escape(document['command'])}</pre>")
    said = ", ".join(f"{name} {value}" for name, value in document["versions"].items())
    parts.append(f'<p class="lead">{escape(said)}; {escape(str(document["device"]))}</p>')
    style = (resources.files("umecache.analysis") / "report.css").read_text("utf-8")
    # The policy lets no browser fetch anything, whatever the data hold.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n'
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def markdown(document: Mapping[str, Any], tables: Sequence[Table]) -> str:
    """The page's words and tables."""
    lines = [f"# {markdown_escape(title_of(document))}", ""]
    lines += [markdown_escape(lead(document)), ""]
    lines += [f"**{markdown_escape(line)}**\n" for line in document.get("warnings") or ()]
    lines += [*(f"- {markdown_escape(line)}" for line in document["findings"]), ""]
    for table in tables:
        lines += [f"## {markdown_escape(table.title)}", "", table.markdown(), "", markdown_escape(table.note), ""]
    lines += [
        "## Read before you quote",
        "",
        *(f"- {markdown_escape(line)}" for line in cautions(document)),
        "",
    ]
    return "\n".join([*lines, "## Again", "", "```bash", document["command"], "```", ""])


def latex(
    document: Mapping[str, Any], tables: Sequence[Table], figures: Mapping[str, Sequence[tuple[str, str]]]
) -> str:
    """A document that compiles beside its `figures`; each part can be taken into another. It says all that the page
    says but the examples.

    Args:
        document: of the comparison.
        tables: in order.
        figures: table -> the figures behind it, each a file and its caption.
    """
    parts = [
        r"\documentclass{article}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage{booktabs,graphicx,textcomp}",
        r"\usepackage[margin=2cm]{geometry}",
        r"\begin{document}",
        "",
        rf"\section*{{{latex_escape(title_of(document))}}}",
        latex_escape(lead(document)),
        "",
        *(rf"\medskip\noindent\textbf{{{latex_prose(line)}}}\par" for line in document.get("warnings") or ()),
        *latex_items(document["findings"]),
        "",
    ]
    for table in tables:
        parts += [r"{\small", table.latex(), "}", ""]
        for file, caption in figures.get(table.key, ()):
            parts += [
                r"\begin{figure}[htbp]", r"\centering", rf"\includegraphics[width=\linewidth]{{figures/{file}}}",
                rf"\caption{{{latex_prose(caption)}}}", r"\end{figure}", "",
            ]  # fmt: skip
    parts += [r"\clearpage", r"\section*{Read before you quote}", *latex_items(cautions(document))]
    parts += [r"\section*{Again}", latex_command(document["command"]), ""]
    return "\n".join([*parts, r"\end{document}", ""])


def title_of(document: Mapping[str, Any]) -> str:
    """The heading."""
    return f"Fusion methods on {document['data']}, {document['eval_split']}"


def lead(document: Mapping[str, Any]) -> str:
    """One line: how much was scored, and how."""
    questions, statistics = document["questions"], document.get("statistics")
    seeds = len(document["rows"][0]["seeds"])
    about = f" about {statistics['images']:,} images" if statistics else ""
    return (
        f"{questions['eval']:,} questions{about} of {document['eval_split']!r}, {document['protocol']} accuracy "
        f"in percent; {len(document['rows'])} rows, {seeds} {'seed' if seeds == 1 else 'seeds'}; "
        f"{questions['trained_on']:,} questions trained on."
    )


def _figures(document: Mapping[str, Any]) -> dict[str, Figure]:
    if any(row["mean"] is None for row in document["rows"]):
        return {}
    best_first = sorted(
        zip(document["rows"], document["learning"], strict=True), key=lambda pair: pair[0]["mean"], reverse=True
    )
    histories = [(each["row"], each["epochs"]) for _, each in best_first]
    drawn = {
        "accuracy": accuracy_figure(document),
        "differences": differences_figure(document),
        "cost": cost_figure(document),
        "growth": growth_figure(document),
        "curves": curves_figure(histories),
        "tokens": tokens_figure(document),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _save_all(folder: Path, figures: Mapping[str, Figure], examples: Sequence[Example], note: str | None) -> None:
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        save(figure, folder, name)
    if examples:
        example_panel(examples, folder / "examples.png", note=note)


def _tables(document: Mapping[str, Any]) -> list[Table]:
    tables = [*sections(document), *sources(document)]
    if (grown := growth_table(document)) is not None:
        tables.insert([table.key for table in tables].index("cost") + 1, grown)
    if (exchanged := control_table(document)) is not None:
        tables.insert([table.key for table in tables].index("cost"), exchanged)
    return tables


def _captions(document: Mapping[str, Any]) -> dict[str, str]:
    return {**_CAPTIONS, "growth": growth_caption(document)}


def _beside(table: Table, tables: Sequence[Table]) -> tuple[str, ...]:
    """The figures of a table; a counted growth has no table of its own."""
    if table.key != "cost":
        return (table.key,)
    return ("cost", "curves") if any(each.key == "growth" for each in tables) else ("cost", "growth", "curves")


def _named_files(
    figures: Mapping[str, Figure], tables: Sequence[Table], document: Mapping[str, Any], examples: Sequence[Example]
) -> dict[str, list[tuple[str, str]]]:
    """Table -> its figures' files and captions, all that `figures/` has."""
    captions = _captions(document)
    named = {
        table.key: [
            (f"{name}.pdf", f"{_TITLES.get(name, table.title)}. {captions[name]}")
            for name in _beside(table, tables)
            if name in figures
        ]
        for table in tables
    }
    if examples:
        last = "agreement" if "agreement" in named else tables[-1].key
        named[last].append(("examples.png", "Examples. Wrong answers are struck through."))
    return named


def _drawn(figure: Figure, name: str, caption: str) -> str:
    drawn, said = inline_svg(figure, caption), prose(caption)
    return f'<figure id="figure-{name}"><div class="wide">{drawn}</div><figcaption>{said}</figcaption></figure>'


def _history(document: Mapping[str, Any], folder: Path, row: Mapping[str, Any]) -> list[dict[str, float]]:
    """Epochs of a row, means over the seeds that reached them."""
    sums: dict[int, dict[str, list[float]]] = {}
    for seed in row["seeds"]:
        file = local(document, seed["results"], folder).parent / "history.csv"
        with file.open(encoding="utf-8", newline="") as lines:
            for line in csv.DictReader(lines):
                told = sums.setdefault(int(line["epoch"]), {})
                for key in ("loss", "held_out"):
                    if line[key]:
                        told.setdefault(key, []).append(float(line[key]))
    return [
        {"epoch": epoch, **{key: round(sum(values) / len(values), 6) for key, values in told.items()}}
        for epoch, told in sorted(sums.items())
    ]


def _examples(document: Mapping[str, Any], folder: Path, split: Split) -> list[Example]:
    if split.annotations is None:
        return []
    named = zip(labels(document), document["rows"], strict=True)
    predictions = {name: answers_of(document, folder, row, 0) for name, row in named}
    return choose_examples(split, predictions, count=_PANELS)


def _told(example: Example) -> dict[str, Any]:
    answers = [{"row": each.method, "answer": each.answer, "right": each.right} for each in example.predictions]
    image = None if example.image is None else os.fspath(example.image)
    return {"image": image, "question": example.question, "answer": example.truth, "predictions": answers}


def bounds(document: Mapping[str, Any]) -> list[str]:
    """What the answers could have scored at most."""
    if not (statistics := document.get("statistics")):
        return []
    best = statistics["oracle"]
    return [
        f"Bounds: the best class of the vocabulary for every question {best['vocabulary']:.2f}; the best of these "
        f"rows' answers to every question {best['any_row']:.2f}.",
        f"Intervals: {statistics['rounds']:,} bootstrap rounds over {statistics['images']:,} images with all their "
        "questions, as Student's t; "
        + ("one seed: of these heads only." if statistics["seeds"] == 1 else f"{statistics['seeds']} seeds."),
    ]


def cautions(document: Mapping[str, Any]) -> list[str]:
    """What every form says under "Read before you quote"."""
    return [*bounds(document), *remarks(document), *unmeasured(document)]


def unmeasured(document: Mapping[str, Any]) -> list[str]:
    """Why the report has no figures of tokens, where it could have had some."""
    why = (document.get("heterogeneity") or {}).get("unavailable")
    return [f"How unlike the modalities' tokens are was not measured: {why}"] if why else []
