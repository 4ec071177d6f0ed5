"""The plot: a picture is made, bars are as long as their accuracies, controls look different, nothing is cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from tests.analysis.conftest import row
from umecache.analysis.plot import DPI, FUSION, WIDTH, accuracy_plot, row_labels

Make = Callable[..., dict[str, Any]]
Pixels = np.ndarray[Any, Any]


def drawn(path: Path) -> Pixels:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def close_to(pixels: Pixels, color: str, tolerance: int = 12) -> Pixels:
    wanted = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
    found: Pixels = np.abs(pixels - wanted).max(-1) <= tolerance
    return found


def bars(pixels: Pixels) -> list[int]:
    """Lengths in pixels of the blue bars, from the top."""
    blue = close_to(pixels, FUSION)
    # A row of pixels belongs to a bar where much of it is blue; the key below is short.
    tall = np.flatnonzero(blue.sum(1) > 60)
    groups = np.split(tall, np.flatnonzero(np.diff(tall) > 1) + 1)
    return [int(np.median(blue[group].sum(1))) for group in groups if len(group) > 8]


def test_bars_are_as_long_as_their_accuracies(document: Make, tmp_path: Path) -> None:
    accuracy_plot(document(row("concat", 25.0), row("ume", 75.0), baselines={}), tmp_path / "p.png")
    short, long = bars(drawn(tmp_path / "p.png"))
    assert long / short == pytest.approx(3.0, rel=0.02)  # from zero, so that lengths can be compared


def test_controls_are_not_blue(document: Make, tmp_path: Path) -> None:
    rows = (row("text-only", 60.0), row("image-only", 60.0), row("ume", 60.0))
    accuracy_plot(document(*rows), tmp_path / "p.png")
    assert len(bars(drawn(tmp_path / "p.png"))) == 1


def test_nothing_touches_the_edge(document: Make, tmp_path: Path) -> None:
    rows = [row(m, s, s + 2, s + 1) for m, s in (("text-only", 97.0), ("a-rather-long-method-name.py-Class", 3.0))]
    accuracy_plot(document(*rows, data="d" * 30), tmp_path / "p.png")
    pixels = drawn(tmp_path / "p.png")
    assert pixels.shape[1] == round(WIDTH * DPI)
    edge = 4
    for strip in (pixels[:edge], pixels[-edge:], pixels[:, :edge], pixels[:, -edge:]):
        assert (strip == 255).all()
    assert (pixels < 128).any()


def test_several_seeds_have_dots_and_whiskers(document: Make, tmp_path: Path) -> None:
    accuracy_plot(document(row("ume", 50.0), baselines={}), tmp_path / "one.png")
    accuracy_plot(document(row("ume", 40.0, 50.0, 60.0), baselines={}), tmp_path / "three.png")
    dark = [int((drawn(tmp_path / name).max(-1) < 60).sum()) for name in ("one.png", "three.png")]
    assert dark[1] > dark[0] + 200


def test_baselines_are_drawn(document: Make, tmp_path: Path) -> None:
    accuracy_plot(document(row("ume", 50.0)), tmp_path / "with.png")
    accuracy_plot(document(row("ume", 50.0), baselines={}), tmp_path / "without.png")
    orange = [close_to(drawn(tmp_path / name), "#D55E00", 25).sum() for name in ("with.png", "without.png")]
    assert orange[0] > 100 and orange[1] == 0


def test_low_scores_fill_the_picture(document: Make, tmp_path: Path) -> None:
    accuracy_plot(document(row("ume", 5.0), baselines={}), tmp_path / "p.png")
    (length,) = bars(drawn(tmp_path / "p.png"))
    assert length > 0.4 * WIDTH * DPI


def test_same_document_same_bytes(document: Make, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        accuracy_plot(document(row("ume", 40.0, 41.0)), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_rows_without_scores_are_left_out(document: Make, tmp_path: Path) -> None:
    accuracy_plot(document(row("ume", 40.0), row("evc")), tmp_path / "p.png")
    assert len(bars(drawn(tmp_path / "p.png"))) == 1
    with pytest.raises(ValueError, match="nothing to plot"):
        accuracy_plot(document(row("evc")), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_labels_name_encoders_only_where_they_differ() -> None:
    assert row_labels([row("concat", 1.0), row("ume", 1.0)]) == ["concat", "ume"]
    assert row_labels([row("ume", 1.0), row("ume", 1.0, text="roberta")]) == ["ume\nbert + vit", "ume\nroberta + vit"]


def test_nothing_global_changes(document: Make, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    accuracy_plot(document(row("ume", 40.0)), tmp_path / "p.png")
    assert dict(matplotlib.rcParams) == before
