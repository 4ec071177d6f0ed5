"""The report's other forms open where they are taken to: LaTeX compiles, tables read as tables."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from umecache.analysis.page import write_all
from umecache.analysis.tables import latex_prose

WARNING = (
    "[Naïve] café × 3 ≤ 4 漢字 🙂 Łódź ŵ ﬁne \u200b ½ `--shuffle-images \\x{` “quoted” it's 50 % _a_ ^ ~ # $ & {x} <b> "
    "α→Ω --flag ¿ß€ \x07 \u0301 ǆ Ⅷ"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_comparison: Any) -> Path:
    """A report whose methods bear names that LaTeX could trip over."""
    methods = ("text-only", "./mine_2.py:My#Own%", "ume~ä^{x}$", "concat & co\\")
    made: Path
    made, _ = make_comparison(tmp_path_factory.mktemp("forms"), methods=methods)
    document = json.loads((made / "compare.json").read_text())
    document["warnings"] = [WARNING]
    document["recipe"] = {"source": "A thesis & its #1", "title": "setup_A", "differs": ["Theirs ≥ ours × 100 %."]}
    document["asked"] |= {"data": str(made.parent / "data"), "methods": list(methods), "text": ["été/漢字 it's"]}
    (made / "compare.json").write_text(json.dumps(document))
    write_all(made, rounds=100)
    return made


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "figures", tmp_path / "figures")
    shutil.copy(folder / "report.tex", tmp_path)
    command = ["pdflatex", "-no-shell-escape", "-halt-on-error", "-interaction=nonstopmode", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    said = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, said[-2000:]
    assert (tmp_path / "report.pdf").stat().st_size > 10_000
    assert "Missing character" not in said
    if shutil.which("pdftotext"):
        read = subprocess.run(
            ["pdftotext", "-layout", "report.pdf", "-"], cwd=tmp_path, capture_output=True, timeout=60
        )
        words = " ".join(read.stdout.decode().split())
        assert "café × 3 ≤ 4 ??" in words and "--shuffle-images" in words


def test_latex_says_what_the_page_says(folder: Path) -> None:
    document = json.loads((folder / "compare.json").read_text())
    text = (folder / "report.tex").read_text()
    assert text.isascii()
    for line in [*document["warnings"], *document["findings"], *document["notes"], *document["recipe"]["differs"]]:
        assert latex_prose(line) in text
    for part in (
        "Bounds: the best class",
        "Without training: always",
        "\\section*{Again}",
        "umecache compare -{}-data",
    ):
        assert part in text
    assert len(document["statistics"]["agreement"]) == 4


def test_tables_are_rectangles_of_plain_numbers(folder: Path) -> None:
    files = sorted((folder / "tables").glob("*.csv"))
    assert {"accuracy", "differences", "cost", "agreement"} <= {file.stem for file in files}
    for file in files:
        with file.open(encoding="utf-8", newline="") as lines:
            head, *rows = list(csv.reader(lines, strict=True))
        assert rows and len(set(head)) == len(head), file.name
        assert {len(row) for row in rows} == {len(head)}, file.name
    methods = [row["method"] for row in json.loads((folder / "compare.json").read_text())["rows"]]
    for name, first in (("agreement", ["row"]), ("types", ["question type", "questions"])):
        with (folder / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
            assert next(csv.reader(lines)) == [*first, *methods]
    with (folder / "tables" / "accuracy.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            assert 0 <= float(row["mean"]) <= 100
