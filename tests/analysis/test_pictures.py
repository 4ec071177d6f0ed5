"""Images for display are those that encoders saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.encoders.broken_images import BAD, COLOURS, SIZE, stored_turned
from umecache.analysis.heat_panel import _pixels as of_heat_panel
from umecache.analysis.panel import _pixels as of_panel
from umecache.analysis.pictures import jpeg_uri, opened, within


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_upright_wherever_it_is_shown(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(stored_turned(orientation))
    image = opened(path)
    assert image is not None and image.size == SIZE
    for pixels in (np.asarray(image), of_panel(path), of_heat_panel(path)):
        assert pixels is not None
        high, wide = pixels.shape[:2]
        corners = (pixels[y, x] for y in (3, high - 4) for x in (3, wide - 4))
        for found, expected in zip(corners, COLOURS, strict=True):
            assert np.abs(found.astype(int) - expected).max() < 25


def test_what_encoders_refuse_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(BAD["bomb.png"].data)
    assert opened(path) is None and of_panel(path) is None
    assert opened(tmp_path / "absent.png") is None and opened(None) is None


def test_within_makes_smaller_and_never_larger() -> None:
    image = Image.new("RGB", (400, 100))
    assert within(image, 200).size == (200, 50) and within(image, 800).size == (400, 100) == image.size
    assert jpeg_uri(image).startswith("data:image/jpeg;base64,/9j/")
