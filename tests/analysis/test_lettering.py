"""Words on a figure: they fit, whatever they say."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from umecache.analysis.lettering import QUESTION, WRONG, cut, inches, say, strike, wrapped

ROOM = 1.69


def test_lines_fit_the_column() -> None:
    question = "Would shorts be an appropriate item of clothing for this kind of weather, or is it far too cold?"
    lines = wrapped(question, ROOM)
    assert len(lines) == 3 and lines[-1].endswith("...")
    assert all(inches(line, QUESTION) <= ROOM for line in lines)
    assert wrapped("Is it?", ROOM) == ["Is it?"]
    assert wrapped("", ROOM) == [""]
    assert len(wrapped(question, ROOM, most=1)) == 1


def test_a_long_answer_is_cut_and_an_empty_one_is_said() -> None:
    assert cut("x" * 200, WRONG, 0.9).endswith("...")
    assert inches(cut("x" * 200, WRONG, 0.9), WRONG) <= 0.9
    assert cut("", WRONG, 0.9) == "(nothing)"
    assert cut("a\nb", WRONG, 0.9) == "a b"


@pytest.mark.parametrize("words", ["red", "$5 and $x^2$"])
def test_the_line_is_as_long_as_the_words(words: str) -> None:
    figure = Figure(figsize=(3, 1), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    said = say(figure, 0.5, 0.7, words, WRONG)
    strike(figure, said)
    [line] = figure.artists
    left, right = np.array(line.get_xdata()) * 3  # type: ignore[attr-defined]
    assert left == pytest.approx(0.5, abs=0.03)
    assert right - left == pytest.approx(inches(words, WRONG), abs=0.06)
