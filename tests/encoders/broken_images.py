"""Image files made on the spot: hard but good ones with the colours they must give, and bad ones with the reason.

GOOD["cmyk.jpg"].data, GOOD["cmyk.jpg"].corners        # bytes; RGB of the four corners, upright
BAD["bomb.png"].data, BAD["bomb.png"].reason           # bytes; a pattern of the reason it is refused for

write_all(folder)                                      # the same as files, for tests of whole extractions
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Rgb = tuple[int, int, int]
Corners = tuple[Rgb, Rgb, Rgb, Rgb]  # top left, top right, bottom left, bottom right

RED, GREEN, BLUE, YELLOW = (200, 30, 30), (30, 160, 60), (40, 60, 200), (220, 200, 40)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
COLOURS: Corners = (RED, GREEN, BLUE, YELLOW)
SIZE = (96, 64)  # width, height; no square, so that a turned image shows


@dataclass(frozen=True)
class Good:
    """A file that must decode, and what it must look like."""

    data: bytes
    corners: Corners
    size: tuple[int, int] = SIZE
    tolerance: int = 6  # of a colour; 0 for lossless files


@dataclass(frozen=True)
class Bad:
    """A file that must be refused, and a pattern of the reason."""

    data: bytes
    reason: str


def quarters(corners: Corners = COLOURS, size: tuple[int, int] = SIZE) -> Image.Image:
    """Four rectangles, one colour each."""
    tiles = np.array(corners, dtype=np.uint8).reshape(2, 2, 3)
    return Image.fromarray(tiles).resize(size, Image.Resampling.NEAREST)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """`image` as a file of this kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(width: int = 160, height: int = 120, *, seed: int = 0, kind: str = "JPEG", **options: Any) -> bytes:
    """A soft pattern with some noise, as files of photographs go."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
    return encoded(Image.fromarray(noisy), kind, **options)


def exif(orientation: int, *, big_endian: bool = False) -> bytes:
    """An EXIF block that says nothing but how the camera was held."""
    order = ">" if big_endian else "<"
    head = b"MM\0*" if big_endian else b"II*\0"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + head + struct.pack(order + "IH", 8, 1) + entry + b"\0\0\0\0"


def stored_turned(orientation: int, kind: str = "JPEG", **options: Any) -> bytes:
    """A file whose pixels lie as a turned camera stored them, so that upright it is `quarters()`."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    image = quarters() if undo is None else quarters().transpose(undo)
    return encoded(image, kind, exif=exif(orientation), **options)


def sixteen_bit_grey() -> bytes:
    """16-bit grey: dark tones that clipping would turn white."""
    levels = np.array([[0, 64], [128, 255]], dtype=np.uint16) * 257
    return encoded(Image.fromarray(np.kron(levels, np.ones((32, 48), dtype=np.uint16))), "PNG")


def sixteen_bit_rgb() -> bytes:
    """16-bit RGB, which Pillow can't write."""
    rows = (np.asarray(quarters(), dtype=">u2") * 257).astype(">u2")
    return png(SIZE, 16, 2, b"".join(b"\0" + row.tobytes() for row in rows))


def png(size: tuple[int, int], bits: int, colour: int, raw: bytes, *, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG file from its unfiltered rows; `before` and `after`: further chunks around the pixels."""
    head = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + before + chunk(b"IDAT", zlib.compress(raw)) + after + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(name: bytes, data: bytes) -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(kind: str = "PNG", side: int = 20_000) -> bytes:
    """A small file that claims side x side pixels."""
    if kind == "PNG":
        return png((side, side), 8, 2, b"\0" * 64)
    if kind == "GIF":
        return b"GIF89a" + struct.pack("<HHBBB", side, side, 0xF0, 0, 0) + bytes(6) + encoded(quarters(), "GIF")[13:]
    if kind == "BMP":
        return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, *[0] * 6)
    whole = bytearray(photo())
    start = whole.index(b"\xff\xc0") + 5  # frame header: marker, length, precision, then height and width
    whole[start : start + 4] = struct.pack(">HH", side, side)
    return bytes(whole)


def _transparent(mode: str) -> Image.Image:
    """Opaque above, clear below: there the colour underneath must not show."""
    image = quarters().convert(mode)
    alpha = Image.fromarray(np.repeat([255, 0], SIZE[1] // 2).astype(np.uint8)[:, None].repeat(SIZE[0], axis=1))
    image.putalpha(alpha)
    return image


def _palette(*, clear: int | None = None) -> bytes:
    image = quarters().quantize(4)
    if clear is None:
        return encoded(image, "PNG")
    return encoded(image, "PNG", transparency=image.getpixel((0, 0)))


def _animated(kind: str, **options: Any) -> bytes:
    frames = [quarters(), quarters((WHITE,) * 4), quarters((BLACK,) * 4)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)


def _grey(rgb: Rgb) -> Rgb:
    level = Image.new("RGB", (1, 1), rgb).convert("L").getpixel((0, 0))
    return (level, level, level)


GREYS: Corners = tuple(map(_grey, COLOURS))  # type: ignore[assignment]
_PHOTO, _BROKEN_EXIF = photo(), b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(7)

GOOD: dict[str, Good] = {
    "plain.jpg": Good(encoded(quarters(), "JPEG", quality=95), COLOURS),
    "progressive.jpg": Good(encoded(quarters(), "JPEG", quality=95, progressive=True), COLOURS),
    "grey.jpg": Good(encoded(quarters().convert("L"), "JPEG", quality=95), GREYS),
    "cmyk.jpg": Good(encoded(quarters().convert("CMYK"), "JPEG", quality=95), COLOURS),
    "exif-malformed.jpg": Good(encoded(quarters(), "JPEG", quality=95, exif=_BROKEN_EXIF), COLOURS),
    "misnamed-png.jpg": Good(encoded(quarters(), "PNG"), COLOURS, tolerance=0),
    **{f"turned-{n}.jpg": Good(stored_turned(n, quality=95), COLOURS) for n in range(1, 9)},
    "turned-6.png": Good(stored_turned(6, "PNG"), COLOURS, tolerance=0),
    "turned-6.webp": Good(stored_turned(6, "WEBP", lossless=True), COLOURS, tolerance=0),
    "turned-6.tif": Good(
        encoded(quarters().transpose(Image.Transpose.ROTATE_90), "TIFF", tiffinfo={274: 6}), COLOURS, tolerance=0
    ),
    "exif-behind-pixels.png": Good(
        png(
            SIZE[::-1],
            8,
            2,
            b"".join(b"\0" + row.tobytes() for row in np.asarray(quarters().transpose(Image.Transpose.ROTATE_90))),
            after=chunk(b"eXIf", exif(6, big_endian=True)[6:]),
        ),
        COLOURS,
        tolerance=0,
    ),
    "grey-16.png": Good(sixteen_bit_grey(), ((0,) * 3, (64,) * 3, (128,) * 3, (255,) * 3), tolerance=0),
    "rgb-16.png": Good(sixteen_bit_rgb(), COLOURS, tolerance=0),
    "grey-16.tif": Good(
        encoded(Image.open(io.BytesIO(sixteen_bit_grey())), "TIFF", compression="tiff_lzw"),
        ((0,) * 3, (64,) * 3, (128,) * 3, (255,) * 3),
        tolerance=0,
    ),
    "grey-16.pgm": Good(
        b"P5 96 64 65535\n" + np.full((64, 96), 0x40FF, dtype=">u2").tobytes(), ((0x40,) * 3,) * 4, tolerance=0
    ),
    "one-bit.png": Good(
        encoded(quarters((BLACK, WHITE, WHITE, BLACK)).convert("1"), "PNG"), (BLACK, WHITE, WHITE, BLACK), tolerance=0
    ),
    "palette.png": Good(_palette(), COLOURS, tolerance=0),
    "palette-clear.png": Good(_palette(clear=0), (WHITE, GREEN, BLUE, YELLOW), tolerance=0),
    "rgba.png": Good(encoded(_transparent("RGB"), "PNG"), (RED, GREEN, WHITE, WHITE), tolerance=0),
    "la.png": Good(encoded(_transparent("L"), "PNG"), (GREYS[0], GREYS[1], WHITE, WHITE), tolerance=0),
    "opaque-rgba.webp": Good(encoded(quarters().convert("RGBA"), "WEBP", lossless=True), COLOURS, tolerance=0),
    "animated.gif": Good(_animated("GIF"), COLOURS, tolerance=0),
    "animated.webp": Good(_animated("WEBP", lossless=True), COLOURS, tolerance=0),
    "animated.png": Good(_animated("PNG"), COLOURS, tolerance=0),
    "animation-malformed.png": Good(
        png(
            SIZE,
            8,
            2,
            b"".join(b"\0" + row.tobytes() for row in np.asarray(quarters())),
            before=chunk(b"acTL", bytes(8)) + chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(3_000_000))),
        ),
        COLOURS,
        tolerance=0,
    ),
    "cmyk.tif": Good(encoded(quarters().convert("CMYK"), "TIFF"), COLOURS, tolerance=1),
    "lzw.tif": Good(encoded(quarters(), "TIFF", compression="tiff_lzw"), COLOURS, tolerance=0),
    "plain.bmp": Good(encoded(quarters(), "BMP"), COLOURS, tolerance=0),
    "plain.ppm": Good(encoded(quarters(), "PPM"), COLOURS, tolerance=0),
}

BAD: dict[str, Bad] = {
    "truncated.jpg": Bad(_PHOTO[: len(_PHOTO) // 2], "a truncated JPEG file"),
    "truncated-progressive.jpg": Bad(photo(progressive=True)[:-400], "a truncated JPEG file"),
    **{
        f"truncated.{kind.lower()}": Bad(photo(kind=kind)[:-200], f"a truncated {name} file")
        for kind, name in (("PNG", "PNG"), ("GIF", "GIF"), ("WEBP", "WebP"), ("TIFF", "TIFF"), ("BMP", "BMP"))
    },
    "empty.jpg": Bad(b"", r"an empty file \(zero bytes\)"),
    "only-zeros.jpg": Bad(bytes(5000), "not an image: nothing but zero bytes"),
    "document.jpg": Bad(
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\n", "not an image: a PDF document"
    ),
    "not-found.jpg": Bad(b"<!DOCTYPE html>\n<html><title>404</title></html>", "not an image: an HTML page"),
    "drawing.jpg": Bad(
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "not an image: an XML or SVG"
    ),
    "note.jpg": Bad(b"This photograph has been removed by its owner.\n", "not an image: text"),
    "pointer.jpg": Bad(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "not an image: a Git LFS pointer"
    ),
    "archive.jpg": Bad(b"PK\x03\x04\x14\0\0\0", "not an image: a zip archive"),
    "picture.heic": Bad(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "not read: HEIC or AVIF"),
    "picture.jp2": Bad(b"\0\0\0\x0cjP  \r\n\x87\n", "not read: JPEG 2000"),
    "noise.jpg": Bad(np.random.default_rng(0).bytes(3000), "not an image, or a kind that is not read"),
    "postscript.jpg": Bad(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image: text"),
    "bomb.png": Bad(bomb(), "too large to decode: 20000 x 20000 pixels; the limit is 89,478,485"),
    "bomb.jpg": Bad(bomb("JPEG"), "too large to decode: 20000 x 20000 pixels"),
    "bomb.gif": Bad(bomb("GIF"), "too large to decode"),
    "bomb.bmp": Bad(bomb("BMP"), "too large to decode: 20000 x 20000 pixels"),
    "barely-too-large.png": Bad(bomb(side=9_460), "too large to decode: 9460 x 9460 pixels"),
    "float.tif": Bad(encoded(Image.new("F", (8, 8), 0.5), "TIFF"), "unsupported samples: 32-bit numbers"),
}


def write_all(folder: Path) -> dict[str, bool]:
    """Write every file; returns name -> whether it is a good one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in {**GOOD, **BAD}.items():
        (folder / name).write_bytes(made.data)
    return {**dict.fromkeys(GOOD, True), **dict.fromkeys(BAD, False)}
