"""An image file's bytes -> the whole image, RGB and upright; or one plain reason why not.

    image = decode(Path("COCO_val2014_000000000042.jpg").read_bytes())

Read: JPEG, PNG, GIF, WebP, TIFF, PPM and BMP, told by content and never by name. 16-bit samples keep their high byte,
what shows through is laid on white, CMYK becomes RGB without a colour profile, an animation gives its first frame,
EXIF orientation is applied. JPEG is decoded at full size (`draft` mode would change values).

Pillow's reader classes are called directly and are shown only what the pixels need. `Image.open` would try forty
formats (one starts Ghostscript), and it warns about sizes by a process-wide setting and about every malformed note that
photographs carry along; a warning cannot be caught for one thread alone. So nothing process-wide is read or changed
here, and any number of threads work side by side: Pillow lets go of the interpreter lock while it decodes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from umecache.errors import UnreadableInput

MAX_PIXELS = 89_478_485  # width x height; Pillow's own default, a quarter of a gigabyte of RGB
PAPER = (255, 255, 255)  # what lies under transparent pixels

_TURNS = {  # EXIF orientation -> what turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Opened:
    """A file whose header has been read, and no pixel yet."""

    image: ImageFile
    orientation: int = 1  # as EXIF numbers it
    bits: int = 16  # of a sample, where Pillow keeps more than eight


class _Truncated(Exception):
    pass


def decode(data: bytes) -> Image.Image:
    """The whole image of a file: RGB, upright, at full size.

    Raises:
        UnreadableInput: no image, cut short, broken, too large (more than `MAX_PIXELS`, told from the header before
            anything is decoded), or of a kind that is not read; the reason is one short line.
    """
    kind, reader = _recognise(data)
    try:
        opened = reader(data)
        width, height = opened.image.size
        if width * height > MAX_PIXELS:
            raise UnreadableInput(f"too large to decode: {width} x {height} pixels; the limit is {MAX_PIXELS:,} in all")
        opened.image.load()
        image = _to_rgb(opened)
        return image.transpose(_TURNS[opened.orientation]) if opened.orientation in _TURNS else image
    except UnreadableInput:
        raise
    except Image.DecompressionBombError:
        raise UnreadableInput(f"too large to decode: the limit is {MAX_PIXELS:,} pixels in all") from None
    except MemoryError:
        raise  # the machine's trouble, not the file's: recording it would blame a good image
    except Exception as error:  # Pillow's readers raise whatever a malformed file leads them to
        raise UnreadableInput(_reason(kind, error)) from error


def _to_rgb(opened: Opened) -> Image.Image:
    image = opened.image
    if image.mode.startswith("I;16"):
        # Pillow's convert() clips at 255 here; of 16-bit RGB it takes the high byte, so grey does likewise.
        return Image.fromarray((np.asarray(image) >> (opened.bits - 8)).astype(np.uint8)).convert("RGB")
    if image.mode == "I" and image.format == "PPM":  # grey of more than 8 bits, scaled to 16 by Pillow
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise UnreadableInput(f"unsupported samples: {opened.bits}-bit numbers without a declared range")
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        paper = Image.new("RGB", clear.size, PAPER)
        paper.paste(clear, mask=clear.getchannel("A"))
        return paper
    return image if image.mode == "RGB" else image.convert("RGB")


# One function per kind of file: bytes -> Opened


class _Jpeg(JpegImageFile):
    """Pillow looks into EXIF for the resolution, warning where it is malformed; this one sees none."""

    def getexif(self) -> Image.Exif:
        return Image.Exif()


def _open_jpeg(data: bytes) -> Opened:
    image = _Jpeg(BytesIO(data))
    return Opened(image, exif_orientation(image.info.get("exif", b"")))


def _open_webp(data: bytes) -> Opened:
    if int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise _Truncated
    image = WebPImageFile(BytesIO(data))
    return Opened(image, exif_orientation(image.info.get("exif", b"")))


def _open_png(data: bytes) -> Opened:
    """Only the chunks that make up the still image: no animation, no compressed notes, no colour profile."""
    kept, exif, at = [data[:8]], b"", 8
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")  # length, name, body, checksum
        name = data[at + 4 : at + 8]
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(data[at:end])
        elif name == b"eXIf":
            exif = data[at + 8 : end - 4]
        at = end
    return Opened(PngImageFile(BytesIO(b"".join(kept))), exif_orientation(exif))


_TIFF_SCALARS = {256, 257, 259, 262, 266, 277, 278, 284, 317, 322, 323}  # size, compression, colour, rows, tiles, ...
_TIFF_ARRAYS = {258, 273, 279, 320, 324, 325, 338, 339, 347, 530}  # bits, where strips and tiles lie, palette, ...
_TIFF_BYTES = {1: 1, 3: 2, 4: 4, 7: 1}  # of one value of the types that these tags take
_TIFF_BITS, _ORIENTATION = 258, 274


def _open_tiff(data: bytes) -> Opened:
    """The first directory, cut down in place to the tags that pixels need: no notes, no further frames."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    start = int.from_bytes(data[4:8], order)
    found = list(_entries(data, start, order))
    end = start + 2 + 12 * int.from_bytes(data[start : start + 2], order) + 4
    if start < 8 or start + 2 > len(data) or end > len(data):
        raise _Truncated
    kept, bits = {}, 1
    for tag, kind, count, entry in found:
        if tag not in _TIFF_SCALARS | _TIFF_ARRAYS or tag in kept:
            continue
        if kind not in _TIFF_BYTES or not count or (tag in _TIFF_SCALARS and count != 1):
            raise ValueError(f"malformed tag {tag}")
        size, at = _TIFF_BYTES[kind] * count, int.from_bytes(entry[8:12], order)
        if size > 4 and at + size > len(data):
            raise _Truncated
        if tag == _TIFF_BITS:
            value = data[at:] if size > 4 else entry[8:]
            bits = int.from_bytes(value[: _TIFF_BYTES[kind]], order)
        kept[tag] = entry
    directory = len(kept).to_bytes(2, order) + b"".join(kept.values())
    clean = data[:start] + directory.ljust(end - start, b"\0") + data[end:]
    return Opened(TiffImageFile(BytesIO(clean)), _orientation(found, order), bits)


def exif_orientation(block: bytes) -> int:
    """The orientation in an EXIF block's first directory, 1 to 8; 1 where none is said or the block is malformed."""
    block = block.removeprefix(b"Exif\0\0")
    if block[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    order: Literal["little", "big"] = "little" if block[:2] == b"II" else "big"
    return _orientation(_entries(block, int.from_bytes(block[4:8], order), order), order)


def _orientation(entries: Iterator[_Entry] | list[_Entry], order: Literal["little", "big"]) -> int:
    for tag, kind, _, entry in entries:
        if tag == _ORIENTATION:
            value = int.from_bytes(entry[8:10] if kind == 3 else entry[8:12], order)
            return value if 1 <= value <= 8 else 1
    return 1


_Entry = tuple[int, int, int, bytes]  # tag, type, count, and all twelve bytes


def _entries(block: bytes, start: int, order: Literal["little", "big"]) -> Iterator[_Entry]:
    """The entries of a TIFF directory, as far as the block goes."""
    first = start + 2
    for at in range(first, first + 12 * int.from_bytes(block[start:first], order), 12):
        entry = block[at : at + 12]
        if len(entry) < 12:
            return
        tag, kind, count = (int.from_bytes(entry[a:b], order) for a, b in ((0, 2), (2, 4), (4, 8)))
        yield tag, kind, count, entry


_READERS: tuple[tuple[str, re.Pattern[bytes], Callable[[bytes], Opened]], ...] = (
    ("JPEG", re.compile(rb"\xff\xd8\xff"), _open_jpeg),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), _open_png),
    ("GIF", re.compile(rb"GIF8[79]a"), lambda data: Opened(GifImageFile(BytesIO(data)))),
    ("WebP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL), _open_webp),
    ("TIFF", re.compile(rb"II\*\0|MM\0\*"), _open_tiff),
    ("PPM", re.compile(rb"P[1-6]\s"), lambda data: Opened(PpmImageFile(BytesIO(data)))),
    ("BMP", re.compile(rb"BM.{4}\0\0\0\0", re.DOTALL), lambda data: Opened(BmpImageFile(BytesIO(data)))),
)
_OTHERS = (  # what such files turn out to be, in the words of a failure list
    (re.compile(rb"\0*\Z"), "not an image: nothing but zero bytes"),
    (re.compile(rb"%PDF-"), "not an image: a PDF document"),
    (re.compile(rb"\s*<(?:!doctype|html)", re.IGNORECASE), "not an image: an HTML page"),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|svg)"), "not an image: an XML or SVG file"),
    (re.compile(rb"PK\x03\x04"), "not an image: a zip archive"),
    (re.compile(rb"\x1f\x8b"), "not an image: a gzip archive"),
    (re.compile(rb"version https://git-lfs"), "not an image: a Git LFS pointer to one"),
    (re.compile(rb".{4}ftyp(?:hei|mif|avi)", re.DOTALL), "a kind of image that is not read: HEIC or AVIF"),
    (re.compile(rb"\0\0\0\x0cjP  "), "a kind of image that is not read: JPEG 2000"),
    (re.compile(rb"[\t\n\r -~]{1,64}(?:\Z|(?<=.{64}))", re.DOTALL), "not an image: text"),
)


def _recognise(data: bytes) -> tuple[str, Callable[[bytes], Opened]]:
    if not data:
        raise UnreadableInput("an empty file (zero bytes)")
    for kind, signature, reader in _READERS:
        if signature.match(data):
            return kind, reader
    for signature, reason in _OTHERS:
        if signature.match(data):
            raise UnreadableInput(reason)
    raise UnreadableInput("not an image, or a kind that is not read (JPEG, PNG, GIF, WebP, TIFF, PPM and BMP are)")


# What Pillow says, in one way or another, of files that end too early.
_CUT = re.compile(r"truncated|no more images|incomplete checksum|chunk b'|not enough|unpack|out of range|EOF", re.I)


def _reason(kind: str, error: Exception) -> str:
    """One plain line that says the same on every machine."""
    text = " ".join(str(error).split()).encode("ascii", "replace").decode()
    if isinstance(error, _Truncated | EOFError) or _CUT.search(text):
        return f"a truncated {kind} file"
    return f"a broken {kind} file: {text[:100] or type(error).__name__}"
