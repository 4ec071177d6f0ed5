r"""One table, four forms: HTML, Markdown, LaTeX (booktabs) and CSV.

    table = Table("accuracy", "Accuracy", (Column("method", words=True), Column("mean", "{:.2f}")), rows)
    table.html(), table.markdown(), table.latex()
    table.write_csv(Path("accuracy.csv"))

Cells come from data and from other people's files, so each form escapes them: an answer `<script>` is shown as text.
CSV holds the plain values of every field, also of those that are not shown.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from umecache.analysis.latex import latex_escape, latex_prose
from umecache.data.files import write_text

Cell = str | float | int | None
_NARROW = 8  # columns of a heat map whose headings fit side by side


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        name: the heading.
        form: how a row is shown: a format string of its fields; None: the field of this name as it is.
        words: it holds words, on the left; else figures, on the right.
        heat: a field from 0 to 100 that colours the cell.
    """

    name: str
    form: str | None = None
    words: bool = False
    heat: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        key: its file name.
        title: above it.
        columns: what is shown.
        rows: fields by name; a field may be None, and a cell that needs it is then a dash.
        note: below it.
        faint: rows shown less strongly.
        shown: so many rows are shown, the first ones; None: all. CSV has them all.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Cell]]
    note: str = ""
    faint: frozenset[int] = frozenset()
    shown: int | None = None

    def cells(self, row: Mapping[str, Cell]) -> list[str]:
        """A row in words."""
        return [_shown(column, row) for column in self.columns]

    def html(self) -> str:
        """A `<figure>` that scrolls sideways where it is too wide."""
        head = "".join(f'<th class="{_side(column)}" scope="col">{escape(column.name)}</th>' for column in self.columns)
        lines = []
        for number, row in enumerate(self.rows[: self.shown]):
            cells = ""
            for place, (column, said) in enumerate(zip(self.columns, self.cells(row), strict=True)):
                if place == 0:
                    cells += f'<th class="{_side(column)}" scope="row">{escape(said)}</th>'
                else:
                    cells += f'<td class="{_side(column)}"{_heat(column, row)}>{escape(said)}</td>'
            lines.append(f"<tr{' class=faint' if number in self.faint else ''}>{cells}</tr>")
        note = f"<figcaption>{prose(self.note)}</figcaption>" if self.note else ""
        # Headings of many narrow columns stand on end.
        kind = ' class="tall"' if sum(column.heat is not None for column in self.columns) > _NARROW else ""
        return (
            f'<figure class="table" id="table-{escape(self.key)}"><div class="wide"><table{kind}>'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(lines) + f"\n</tbody></table></div>{note}</figure>"
        )

    def markdown(self) -> str:
        """Without a title, and without a line at its end."""
        lines = [[column.name for column in self.columns], ["---" if c.words else "---:" for c in self.columns]]
        body = [lines[0], *(self.cells(row) for row in self.rows[: self.shown])]
        said = ["| " + " | ".join(markdown_escape(cell) for cell in line) + " |" for line in body]
        return "\n".join([said[0], "|" + "|".join(lines[1]) + "|", *said[1:]])

    def latex(self) -> str:
        """A `table` environment; needs `booktabs`."""
        sides = "".join("l" if column.words else "r" for column in self.columns)
        rows = [" & ".join(map(latex_escape, self.cells(row))) + r" \\" for row in self.rows[: self.shown]]
        heading = " & ".join(latex_escape(column.name) for column in self.columns) + r" \\"
        caption = latex_prose(self.title + "." + (f" {self.note}" if self.note else ""))
        return "\n".join(
            [
                r"\begin{table}[htbp]", r"\centering", rf"\caption{{{caption}}}", rf"\label{{tab:{self.key}}}",
                rf"\begin{{tabular}}{{{sides}}}", r"\toprule", heading, r"\midrule", *rows, r"\bottomrule",
                r"\end{tabular}", r"\end{table}",
            ]
        )  # fmt: skip

    def write_csv(self, path: Path) -> None:
        """Every field of every row, as it is, under its name; empty where it is None. The file appears whole.

        Fields of a heat map stand under the headings of their columns: those are names of rows, which no format string
        could hold.
        """
        fields = list(dict.fromkeys(name for row in self.rows for name in row))
        heads = {column.heat: column.name for column in self.columns if column.heat is not None}
        out = io.StringIO()
        table = csv.writer(out, lineterminator="\n")
        table.writerow(heads.get(name, name) for name in fields)
        table.writerows([row.get(name) for name in fields] for row in self.rows)
        write_text(path, out.getvalue())


def escape(text: str) -> str:
    """Text as it stands in HTML, in attributes too."""
    return html.escape(text, quote=True)


def prose(text: str) -> str:
    """A sentence as it stands in HTML: `commands` in backticks become code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def markdown_escape(text: str) -> str:
    """Text as it stands in a Markdown table: one line, no markup."""
    plain = " ".join(text.split()).replace("\\", "\\\\")
    for mark in "|`*_[]":
        plain = plain.replace(mark, f"\\{mark}")
    return html.escape(plain, quote=False)


def _shown(column: Column, row: Mapping[str, Cell]) -> str:
    if column.form is None:
        value = row.get(column.name)
        return "–" if value is None else str(value)
    try:
        return column.form.format_map(row).replace("-0.00", "0.00").replace("+0.00", "0.00")
    except (KeyError, TypeError):  # a field is None or absent
        return "–"


def _side(column: Column) -> str:
    return "w" if column.words else "n"


def _heat(column: Column, row: Mapping[str, Cell]) -> str:
    value = row.get(column.heat) if column.heat else None
    return f' style="--heat:{min(100.0, max(0.0, value)):.0f}%"' if isinstance(value, int | float) else ""
