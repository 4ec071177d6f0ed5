"""Tables in four forms."""

from __future__ import annotations

import csv
from html.parser import HTMLParser
from pathlib import Path

from umecache.analysis.tables import Column, Table, markdown_escape, prose

EVIL = '<script>alert("1")</script> | a_b & 5 % $x$ \\end{table}\nnew'
TABLE = Table(
    "t",
    "A title",
    (Column("name", words=True), Column("mean", "{m:.2f}", heat="m"), Column("lost", "{none:.1f}")),
    [
        {"name": EVIL, "m": 41.267, "none": None, "hidden": 7},
        {"name": "b", "m": -0.001, "none": 1.0, "hidden": None},
    ],
    "A note.",
    frozenset({1}),
)


class Words(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_html_shows_text_as_text() -> None:
    page = Words(TABLE.html())
    assert "script" not in page.tags and page.tags.count("tr") == 3
    assert EVIL in page.words and "41.27" in page.words and "A note." in page.words
    assert 'style="--heat:41%"' in TABLE.html() and TABLE.html().count("class=faint") == 1


def test_what_is_not_known_is_a_dash_and_zero_has_no_sign() -> None:
    assert TABLE.cells(TABLE.rows[0])[2] == "–"
    assert TABLE.cells(TABLE.rows[1]) == ["b", "0.00", "1.0"]


def test_markdown_keeps_its_columns() -> None:
    lines = TABLE.markdown().splitlines()
    assert lines[1] == "|---|---:|---:|" and len(lines) == 4
    assert lines[2].replace(r"\|", "").count("|") == 4 and "<script>" not in lines[2]
    assert markdown_escape("`a` *b* [c](d)") == r"\`a\` \*b\* \[c\](d)"


def test_latex_is_escaped_and_uses_booktabs() -> None:
    said = TABLE.latex()
    assert r"\toprule" in said and r"\begin{tabular}{lrr}" in said
    assert said.count(r"\end{table}") == 1 and r"a\_b \& 5 \% \$x\$" in said


def test_csv_has_plain_values_of_every_field(tmp_path: Path) -> None:
    TABLE.write_csv(tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # A heat map's field is called as its column is.
    assert rows[0] == {"name": EVIL, "mean": "41.267", "none": "", "hidden": "7"}


def test_headings_of_many_heat_columns_stand_on_end() -> None:
    def table(count: int) -> str:
        columns = tuple(Column(f"c{k}", "{x:.0f}", heat="x") for k in range(count))
        return Table("t", "T", (Column("row", words=True), *columns), [{"row": "a", "x": 5}]).html()

    assert '<table class="tall">' in table(9) and "<table>" in table(8)


def test_commands_in_prose_are_code_and_all_else_is_text() -> None:
    assert prose("`a <b>` says <i> and `") == "<code>a &lt;b&gt;</code> says &lt;i&gt; and `"
