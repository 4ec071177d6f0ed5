"""From image file to the encoder's square: values as Pillow, torchvision and timm give them, and facts that say so."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.data
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from tests.encoders.broken_images import BAD, GOOD, RED, encoded, photo, quarters
from umecache.encoders.pixels import Preprocessing
from umecache.errors import UnreadableInput, UsageError

HALF = (0.5, 0.5, 0.5)
SIZES = ((160, 120), (120, 160), (97, 97), (500, 40), (20, 30))


def look(size: int = 32, **changes: Any) -> Preprocessing:
    return Preprocessing(**{"image_size": size, "mean": HALF, "std": HALF, **changes})


@pytest.mark.parametrize("size", SIZES)
def test_the_whole_image_is_squashed(size: tuple[int, int]) -> None:
    data = photo(*size)
    pixels = look(48).pixels(data)
    assert pixels.shape == (3, 48, 48)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    squashed = Image.open(io.BytesIO(data)).resize((48, 48), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(pixels, np.asarray(squashed).transpose(2, 0, 1))


def test_the_squash_is_that_of_torchvision() -> None:
    data = photo(160, 120)
    resize = v2.Resize((48, 48), interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
    expected = np.asarray(resize(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(look(48).pixels(data), expected.transpose(2, 0, 1))


def test_borders_are_seen_unless_cropped() -> None:
    framed = Image.new("RGB", (200, 100), (0, 0, 0))
    framed.paste(Image.new("RGB", (20, 100), RED), (0, 0))
    data = encoded(framed, "PNG")
    assert look(40).pixels(data)[0, :, 0].min() > 150
    assert look(40, crop=True).pixels(data)[0, :, 0].max() == 0


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((256, 256, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    pixels = look(32).pixels(encoded(Image.fromarray(stripes), "PNG"))
    assert abs(pixels.astype(int) - 127).max() <= 8  # 0 or 255 without


def test_same_size_is_untouched() -> None:
    image = quarters(size=(32, 32))
    np.testing.assert_array_equal(look(32).pixels(encoded(image, "PNG")), np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize(("crop_pct", "interpolation"), [(0.875, "bilinear"), (0.9, "bicubic"), (1.0, "bicubic")])
def test_crop_is_timms(size: tuple[int, int], mode: str, crop_pct: float, interpolation: str) -> None:
    data = photo(*size)
    expected = timm.data.create_transform(
        (3, 32, 32),
        is_training=False,
        use_prefetcher=True,  # ends in uint8
        interpolation=interpolation,
        crop_pct=crop_pct,
        crop_mode=mode,
    )(Image.open(io.BytesIO(data)))
    crop = look(32, crop=True, crop_mode=mode, crop_pct=crop_pct, interpolation=interpolation)
    np.testing.assert_array_equal(crop.pixels(data), np.asarray(expected))


def test_crop_of_a_thread_is_refused() -> None:
    """Its longer side would become millions of pixels."""
    data = encoded(Image.new("RGB", (1, 30_000)), "PNG")
    assert look(64).pixels(data).shape == (3, 64, 64)
    with pytest.raises(UnreadableInput, match="too narrow"):
        look(64, crop=True).pixels(data)


# Facts


def test_recipe_says_what_is_done() -> None:
    facts = look(48, crop_pct=0.875, interpolation="bilinear").recipe()
    assert json.loads(json.dumps(facts)) == facts
    assert facts == {
        "image_size": 48,
        "crop": False,
        "crop_pct": None,
        "interpolation": "bicubic",  # the model's own belongs to its crop
        "antialias": True,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "colour": "RGB; high byte of 16 bits; transparency on white; CMYK without profile; first frame",
        "exif": "orientation applied",
    }
    cropped = look(48, crop=True, crop_pct=0.875, interpolation="bilinear").recipe()
    assert {key: cropped[key] for key in facts if facts[key] != cropped[key]} == {
        "crop": "center",
        "crop_pct": 0.875,
        "interpolation": "bilinear",
    }


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"image_size": 0}, "--image-size"),
        ({"image_size": 5000}, "--image-size"),
        ({"mean": (0.5,)}, "--mean"),
        ({"mean": (0.5, float("nan"), 0.5)}, "--mean"),
        ({"std": (0.5, 0.0, 0.5)}, "--std"),
        ({"std": (0.5, 0.5, 0.5, 0.5)}, "--std"),
        ({"crop": True, "crop_mode": "border"}, "--crop"),
        ({"crop": True, "interpolation": "random"}, "--crop"),
        ({"crop": True, "crop_pct": 0.0}, "crop_pct"),
    ],
)
def test_absurd_wishes_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        look(**changes) if "image_size" not in changes else look(changes["image_size"])


# Hard files, broken files


@pytest.mark.parametrize("name", GOOD)
def test_hard_files_give_their_four_colours(name: str) -> None:
    wanted = GOOD[name]
    pixels = look(64).pixels(wanted.data).astype(int)
    corners = [pixels[:, y, x] for y in (8, 55) for x in (8, 55)]
    assert np.abs(np.array(corners) - np.array(wanted.corners)).max() <= max(2, wanted.tolerance)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("crop", [False, True])
def test_bad_files_are_refused(name: str, crop: bool) -> None:
    with pytest.raises(UnreadableInput, match=BAD[name].reason):
        look(crop=crop).pixels(BAD[name].data)


@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_never_crash(data: bytes, crop: bool) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a"):
        try:
            assert look(16, crop=crop).pixels(start + data).shape == (3, 16, 16)
        except UnreadableInput as refused:
            assert "\n" not in str(refused)


def test_from_threads() -> None:
    files = [photo(64 + n, 50, seed=n) for n in range(12)]
    expected = [look().pixels(data) for data in files]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            for found, wanted in zip(pool.map(look().pixels, files), expected, strict=True):
                np.testing.assert_array_equal(found, wanted)


def test_real_photographs(shared: Path) -> None:
    """Against Pillow's usual way of opening files, and torchvision's resize on tensors."""
    files = sorted((shared / "data" / "vqa-v2-mini" / "images").iterdir())[::120]
    assert len(files) >= 10
    for file in files:
        pixels = look(224).pixels(file.read_bytes())
        with Image.open(file) as image:
            rgb = image.convert("RGB")
        expected = np.asarray(rgb.resize((224, 224), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        np.testing.assert_array_equal(pixels, expected)
        tensor = torch.from_numpy(np.asarray(rgb).transpose(2, 0, 1).copy())
        close = v2.functional.resize(tensor, [224, 224], v2.InterpolationMode.BICUBIC, antialias=True)
        assert np.abs(pixels.astype(int) - close.numpy().astype(int)).max() <= 2
