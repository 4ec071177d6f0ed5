"""Images for display: pages, panels and heat maps all open them here, as the encoders did.

    image = opened(path)                    # RGB, upright (EXIF orientation applied), or None: no file, no image
    shown = within(image, 320)              # its longest side at most 320
    jpeg_uri(shown)                         # "data:image/jpeg;base64,..."

The decoder is the encoders' own (`encoders/imagefile.py`): what they refused is not shown, transparent parts lie on the
same ground, and a photograph stored on its side stands the way its tokens do.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from umecache.encoders.imagefile import decode
from umecache.errors import UnreadableInput


def opened(path: Path | None) -> Image.Image | None:
    """The image of a file: RGB, upright, at full size; None where there is no file, or no image in it."""
    if path is None:
        return None
    try:
        return decode(path.read_bytes())
    except (OSError, UnreadableInput):
        return None


def within(image: Image.Image, longest: int) -> Image.Image:
    """The image, made smaller where a side is longer than `longest` pixels; never larger."""
    shown = image.copy()
    shown.thumbnail((longest, longest))
    return shown


def jpeg_uri(image: Image.Image) -> str:
    """The image as an address that holds it."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")
