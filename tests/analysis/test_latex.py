"""Text for LaTeX. That all of it compiles: `test_forms.py`."""

from __future__ import annotations

import pytest

from umecache.analysis.latex import latex_command, latex_escape, latex_items, latex_prose


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\\{}~^", r"\textbackslash{}\{\}\textasciitilde{}\textasciicircum{}"),
        ("a_b & 5 %\n$x$ #1", r"a\_b \& 5 \% \$x\$ \#1"),
        ("é e\u0301 ŵ Łódź", r"\'{e} \'{e} \^{w} \L{}\'{o}d\'{z}"),
        ("3 × 4 ≤ α²", r"3 $\times$ 4 $\leq$ $\alpha$$^2$"),
        ("--lr –", r"-{}-lr --"),
        ("漢字 ﬁ ½ \x00", "?? fi 1?2 ?"),
    ],
)
def test_all_text_becomes_ascii(text: str, told: str) -> None:
    assert latex_escape(text) == told and told.isascii()


def test_sentences_commands_and_lists() -> None:
    assert latex_prose("use `a_b --c` now") == r"use \texttt{a\_b -{}-c} now"
    assert latex_items([]) == []
    assert latex_items(["[a]"]) == [r"\begin{itemize}", r"\item {}[a]", r"\end{itemize}"]  # no label of an item
    assert r"it\textquotesingle{}s/\allowbreak{}x" in latex_command("it's/x")
