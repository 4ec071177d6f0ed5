"""Good files give the right colours, bad ones one plain reason, and nothing else ever comes out."""

from __future__ import annotations

import io
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from tests.encoders.broken_images import BAD, COLOURS, GOOD, bomb, exif, photo, stored_turned, write_all
from umecache.encoders.imagefile import MAX_PIXELS, decode, exif_orientation
from umecache.errors import UnreadableInput

KINDS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM")


def is_one_plain_line(reason: str) -> bool:
    return 5 < len(reason) < 200 and reason.isascii() and reason.isprintable() and " at 0x" not in reason


@pytest.mark.parametrize("name", GOOD)
def test_good_files(name: str) -> None:
    wanted = GOOD[name]
    image = decode(wanted.data)
    assert image.mode == "RGB"
    assert image.size == wanted.size
    right, below = image.width - 5, image.height - 5
    for place, colour in zip(((4, 4), (right, 4), (4, below), (right, below)), wanted.corners, strict=True):
        found = image.getpixel(place)
        assert isinstance(found, tuple)
        assert max(abs(a - b) for a, b in zip(found, colour, strict=True)) <= wanted.tolerance, place


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str) -> None:
    with pytest.raises(UnreadableInput, match=BAD[name].reason) as error:
        decode(BAD[name].data)
    assert is_one_plain_line(str(error.value))


def test_no_warning_is_given() -> None:
    with warnings.catch_warnings(record=True) as given_warnings:
        warnings.simplefilter("always")
        for made in GOOD.values():
            decode(made.data)
        for made in BAD.values():
            with pytest.raises(UnreadableInput):
                decode(made.data)
    assert given_warnings == []


@pytest.mark.parametrize("kind", KINDS)
def test_plain_files_decode_as_pillow_does(kind: str) -> None:
    data = photo(kind=kind)
    np.testing.assert_array_equal(np.asarray(decode(data)), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_pillows(orientation: int) -> None:
    data = stored_turned(orientation)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(np.asarray(decode(data)), np.asarray(upright))


@pytest.mark.parametrize("big_endian", [False, True])
def test_exif_orientation(big_endian: bool) -> None:
    for orientation in range(1, 9):
        assert exif_orientation(exif(orientation, big_endian=big_endian)) == orientation
    for nonsense in (0, 9, 65535):
        assert exif_orientation(exif(nonsense, big_endian=big_endian)) == 1


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda tail: exif(6)[:14] + tail))
def test_exif_never_fails(block: bytes) -> None:
    assert exif_orientation(block) in range(1, 9)


# Sizes


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_bombs_are_refused_before_a_pixel_is_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", loaded.append)
    data = bomb(kind)
    start = time.perf_counter()
    with pytest.raises(UnreadableInput, match="too large"):
        decode(data)
    assert time.perf_counter() - start < 0.5
    assert loaded == []


def test_the_limit_is_ours_whatever_pillows_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(UnreadableInput, match=f"{MAX_PIXELS:,}"):
        decode(bomb())


@pytest.mark.parametrize("kind", KINDS[:2])
def test_no_warning_of_large_sizes_either(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # Image.open would warn, and warnings are errors here
    assert decode(photo(160, 120, kind=kind)).size == (160, 120)


# Any bytes at all


def decodes_or_is_refused(data: bytes) -> None:
    try:
        image = decode(data)
    except UnreadableInput as refused:
        assert is_one_plain_line(str(refused))
    else:
        assert image.mode == "RGB"
        assert image.width * image.height <= MAX_PIXELS


SIGNATURES = [
    b"",
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
    b"P6\n",
]
SIGNATURES += [b"RIFF\x40\0\0\0WEBPVP8 ", b"BM\x46\0\0\0\0\0\0\0"]


@given(st.sampled_from(SIGNATURES), st.binary(max_size=400))
def test_random_bytes(signature: bytes, tail: bytes) -> None:
    decodes_or_is_refused(signature + tail)


WHOLE = {kind: photo(40, 30, kind=kind) for kind in KINDS} | {"EXIF": stored_turned(6, quality=60)}


@settings(max_examples=400)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_damaged_files(kind: str, data: st.DataObject) -> None:
    whole = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, min(120, len(whole) - 1)))
        whole[place : place + 1] = data.draw(st.binary(max_size=3))
        if not whole:
            break
    cut = data.draw(st.integers(0, len(whole)) | st.just(len(whole)))
    decodes_or_is_refused(bytes(whole[:cut]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_that_loses_pixels_is_seen(kind: str) -> None:
    whole = photo(64, 48, kind=kind)
    expected = np.asarray(decode(whole))
    for cut in [*range(0, len(whole), max(1, len(whole) // 150)), *range(max(0, len(whole) - 40), len(whole))]:
        try:
            image = decode(whole[:cut])
        except UnreadableInput:
            continue
        # Only marks behind the last pixel may be missing from a file that is taken.
        np.testing.assert_array_equal(np.asarray(image), expected)


# Threads and process-wide settings


def test_threads_do_not_disturb_each_other() -> None:
    names = [*GOOD, *BAD] * 4
    answers = {name: np.asarray(decode(made.data)) for name, made in GOOD.items()}
    barrier = threading.Barrier(8)

    def run(part: int) -> int:
        barrier.wait()
        done = 0
        for name in names[part:] + names[:part]:
            if name in BAD:
                with pytest.raises(UnreadableInput, match=BAD[name].reason):
                    decode(BAD[name].data)
            else:
                np.testing.assert_array_equal(np.asarray(decode(GOOD[name].data)), answers[name])
            done += 1
        return done

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(0, 80, 10))) == [len(names)] * 8


def test_pillows_settings_are_left_alone() -> None:
    def state() -> tuple[object, ...]:
        return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, len(Image.OPEN), list(warnings.filters)

    before = state()
    for made in GOOD.values():
        decode(made.data)
    for made in BAD.values():
        with pytest.raises(UnreadableInput):
            decode(made.data)
    assert state() == before


def test_running_out_of_memory_does_not_blame_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: ImageFile.ImageFile) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(MemoryError):
        decode(photo())


def test_the_corpus_can_be_written(tmp_path: Path) -> None:
    files = write_all(tmp_path / "images")
    assert {path.name for path in (tmp_path / "images").iterdir()} == set(files)
    assert sum(files.values()) == len(GOOD)
    assert decode((tmp_path / "images" / "plain.bmp").read_bytes()).getpixel((0, 0)) == COLOURS[0]
