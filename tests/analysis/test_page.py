"""The report as a file: it needs nothing else, shows text as text, and leads back to the runs."""

from __future__ import annotations

import builtins
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from umecache.analysis.example_html import SHUFFLED
from umecache.analysis.measured_cost import measure, write
from umecache.analysis.page import write_all
from umecache.data.dataset import Split
from umecache.errors import UmecacheError
from umecache.training.table import count

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Checks that tags close, and keeps what would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asked: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.asked += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, make_comparison: Any) -> tuple[Path, dict[str, Any]]:
    folder, _ = make_comparison(tmp_path_factory.mktemp("page"))
    return folder, write_all(folder, rounds=100)


def test_the_page_is_whole_and_asks_for_nothing(written: tuple[Path, dict[str, Any]]) -> None:
    text = (written[0] / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert all(asked.startswith(("#", "data:")) for asked in page.asked)
    assert not page.tags & {"script", "iframe", "object", "embed", "form", "b>"}
    assert {asked[1:] for asked in page.asked if asked.startswith("#")} <= set(page.ids)
    assert "default-src 'none'" in text and not re.search(r"url\((?!#)", text)


def test_what_comes_from_data_is_shown_as_text(written: tuple[Path, dict[str, Any]]) -> None:
    page = Page((written[0] / "report.html").read_text())
    for words in (EVIL, "what is 0 & <b>?", "is <it>", "A remark with <b>brackets</b>."):
        assert words in page.words
    assert "<script" not in (written[0] / "report.md").read_text()
    assert "<script" not in (written[0] / "report.tex").read_text()


def test_every_form_has_every_mean(written: tuple[Path, dict[str, Any]]) -> None:
    folder, document = written
    forms = [(folder / name).read_text() for name in ("report.html", "report.md", "report.tex", "tables/accuracy.csv")]
    for row in document["rows"]:
        for form in forms:
            assert f"{row['mean']:.2f}".rstrip("0") in form
    for name in ("accuracy", "differences", "cost", "growth", "curves"):
        for kind in ("svg", "pdf", "png"):
            assert (folder / "figures" / f"{name}.{kind}").stat().st_size > 1000


def test_latex_has_every_figure_once(written: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = written
    named = re.findall(r"includegraphics.*{figures/(.*)}", (folder / "report.tex").read_text())
    files = {file.name for file in (folder / "figures").glob("*.pdf")} | {"examples.png"}
    assert sorted(named) == sorted(files) and {"growth.pdf", "curves.pdf"} <= files
    assert (folder / "figures" / "examples.png").is_file()


def test_files_appear_whole(another: tuple[Path, Split], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is opened for writing under the name that a reader looks for."""
    opened: list[str] = []
    plain = io.open

    def watch(file: Any, mode: str = "r", *args: Any, **named: Any) -> Any:
        if set(mode) & set("wax+"):
            opened.append(Path(file).name)
        return plain(file, mode, *args, **named)

    monkeypatch.setattr(io, "open", watch)
    monkeypatch.setattr(builtins, "open", watch)
    folder, _ = another
    write_all(folder, rounds=100)
    assert len(opened) > 20 and all(name.startswith(".") for name in opened)
    assert not [file for file in folder.rglob(".*") if file.is_file()]


def test_the_page_shows_the_frequent_types_and_the_csv_has_all(another: tuple[Path, Split]) -> None:
    folder, split = another
    file = split.folder / "annotations_val.json"
    annotations = json.loads(file.read_text())
    for place, each in enumerate(annotations["annotations"]):
        each["question_type"] = f"kind-{place:03d}"
    file.write_text(json.dumps(annotations))
    document = json.loads((folder / "compare.json").read_text())
    kinds = [each["question_type"] for each in annotations["annotations"]]
    for row in document["rows"]:
        row["per_question_type"] = dict.fromkeys(kinds, 50.0)
    (folder / "compare.json").write_text(json.dumps(document))
    done = write_all(folder, rounds=100, figure_files=False)
    assert len(kinds) == 36 and set(done["statistics"]["question_types"]) == set(kinds)
    assert len((folder / "tables" / "types.csv").read_text().splitlines()) == 37
    for name in ("report.html", "report.md", "report.tex"):
        shown = set(re.findall("kind-[0-9]{3}", (folder / name).read_text().split("Hardest")[-1].split("xamples")[0]))
        assert len(shown & set(kinds)) <= 26, name
    assert "The 12 rarer ones are in tables/types.csv" in (folder / "report.md").read_text()


def test_json_carries_what_the_page_shows(written: tuple[Path, dict[str, Any]]) -> None:
    folder, document = written
    assert json.loads((folder / "compare.json").read_text()) == json.loads(json.dumps(document, allow_nan=False))
    assert {"statistics", "findings", "provenance", "learning", "examples", "command"} <= set(document)
    page = Page((folder / "report.html").read_text()).words
    for example in document["examples"]:
        assert example["question"] in page
    for each in document["provenance"]:
        for store in each["stores"]:
            assert store["fingerprint"][:16] in page
    assert document["learning"][0]["epochs"] == [{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 1.25}]
    assert document["command"] in page
    [concat] = [each for each in document["costs"] if each["row"] == "concat"]
    assert concat["macs"] > 0 and concat["megabytes"] > 0 and concat["seconds_per_head"] == 0.5
    assert [each["method"] for each in document["counted_growth"]] == ["simple-pair", "ume", "concat"]


def test_every_cell_of_every_table_is_in_json(another: tuple[Path, Split]) -> None:
    folder, _ = another
    write(folder, measure(width=4, counts=(4, 8)))
    write_all(folder, rounds=100, figure_files=False)
    document = json.loads((folder / "compare.json").read_text())
    words, shown = said_by(document)
    tables = Tables((folder / "report.html").read_text())
    assert set(tables.cells) == {"accuracy", "differences", "cost", "growth", "types", "agreement", "runs", "stores"}
    for name, cells in tables.cells.items():
        for cell in cells:
            for part in re.split(r" to | ± | → |(?<=\d), |: ", cell):
                known = part in shown or any(part in word for word in words) or part in ("–", "all")
                assert known, f"{name}: {part!r} of {cell!r} is not in compare.json"


def said_by(document: Any) -> tuple[set[str], set[str]]:
    """All words of a document, keys among them, and its numbers in every form that a table could show them in."""
    words: set[str] = set()
    shown: set[str] = set()
    if isinstance(document, dict | list):
        for each in document.values() if isinstance(document, dict) else document:
            for mine, theirs in zip((words, shown), said_by(each), strict=True):
                mine |= theirs
        return words | set(document if isinstance(document, dict) else ()), shown
    if isinstance(document, str):
        return {document}, set()
    if isinstance(document, int | float) and not isinstance(document, bool):
        for scale in (1, 1000, 1e-6):  # seconds are shown as ms, bytes as MB
            value = document * scale
            shown |= {f"{value:{sign},.{digits}f}" for digits in (0, 1, 2, 4) for sign in ("", "+")}
        shown |= {str(document), f"{document:g}", *([count(document)] if isinstance(document, int) else [])}
    return words, shown


class Tables(HTMLParser):
    """The cells of each table of a page, by the table's key."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: dict[str, list[str]] = {}
        self.key, self.inside = "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "figure":
            self.key = (dict(attrs).get("id") or "").removeprefix("table-")
        self.inside = tag in ("td", "th")
        if self.inside and ("scope", "col") not in attrs:
            self.cells.setdefault(self.key, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside and self.key in self.cells:
            self.cells[self.key][-1] += data


def test_written_again_it_is_the_same(written: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = written
    before = {name: (folder / name).read_bytes() for name in ("report.html", "report.md", "report.tex", "compare.json")}
    write_all(folder, rounds=100, figure_files=False)
    assert before == {name: (folder / name).read_bytes() for name in before}


def test_another_baseline(written: tuple[Path, dict[str, Any]]) -> None:
    document = write_all(written[0], baseline="ume", rounds=100, figure_files=False)
    assert document["rows"][2]["difference"] is None and document["rows"][1]["difference"]["to"] == "ume"
    assert document["command"].endswith("--baseline ume")
    again = write_all(written[0], rounds=100, figure_files=False)  # what was chosen stays chosen
    assert again["statistics"]["baseline"] == "ume" and again["rows"] == document["rows"]


def test_data_that_are_gone_are_named(another: tuple[Path, Split], tmp_path: Path) -> None:
    folder, split = another
    split.folder.rename(tmp_path / "elsewhere")
    with pytest.raises(UmecacheError):
        write_all(folder)
    assert (
        write_all(folder, data=str(tmp_path / "elsewhere"), rounds=100, figure_files=False)["statistics"]["questions"]
        == 36
    )


def test_a_split_without_answers_has_a_report_too(another: tuple[Path, Split]) -> None:
    folder, split = another
    (split.folder / "annotations_val.json").unlink()
    document = json.loads((folder / "compare.json").read_text())
    document["baselines"] = {}
    document["questions"]["eval_out_of_vocabulary"] = None
    for row in document["rows"]:
        row |= {"mean": None, "std": None, "per_answer_type": None, "per_question_type": None}
        for seed in row["seeds"]:
            seed["overall"] = None
    (folder / "compare.json").write_text(json.dumps(document))
    written = write_all(folder)
    page = Page((folder / "report.html").read_text())
    assert page.open == [] and written["statistics"] is None and "not scored" in page.words


def test_without_stores_the_report_says_what_it_lacks(written: tuple[Path, dict[str, Any]]) -> None:
    folder, document = written
    assert "unavailable" in document["heterogeneity"]
    assert "was not measured" in Page((folder / "report.html").read_text()).words
    assert "was not measured" in (folder / "report.md").read_text()


def test_what_was_measured_beside_the_comparison_is_shown(another: tuple[Path, Split]) -> None:
    folder, _ = another
    assert write_all(folder, rounds=100, figure_files=False)["measured_cost"] is None
    counted = Page((folder / "report.html").read_text())
    assert "Counted, not timed" in counted.words and "table-growth" not in counted.ids
    told = measure(width=4, counts=(4, 8, 16))
    write(folder, told)
    assert write_all(folder, rounds=100, figure_files=False)["measured_cost"] == told
    page = Page((folder / "report.html").read_text())
    assert page.open == [] and {"figure-growth", "table-growth"} <= set(page.ids)
    assert told["device"] in page.words and "Counted, not timed" not in page.words
    assert (folder / "tables" / "growth.csv").read_text().startswith("N,dense ms,dense MB")
    assert "figures/growth.pdf" in (folder / "report.tex").read_text()


def test_a_shuffled_comparison_says_that_its_pictures_were_not_seen(another: tuple[Path, Split]) -> None:
    folder, _ = another
    document = json.loads((folder / "compare.json").read_text())
    document["asked"]["shuffle_images"] = True
    (folder / "compare.json").write_text(json.dumps(document))
    write_all(folder, rounds=100, figure_files=False)
    assert SHUFFLED in Page((folder / "report.html").read_text()).words


def test_commands_in_sentences_are_code(written: tuple[Path, dict[str, Any]]) -> None:
    text = (written[0] / "report.html").read_text()
    assert "<code>umecache report --measure-cost</code>" in text and "`" not in Page(text).words.split("Again")[0]
