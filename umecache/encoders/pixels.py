"""An image file's bytes -> the S x S pixels that an encoder sees. Every choice is a fact of the recipe.

    look = Preprocessing(image_size=384, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    pixels_3SS = look.pixels(Path("COCO_val2014_000000000042.jpg").read_bytes())     # uint8

By default the whole image is squashed to a square (questions ask about the borders too): bicubic, antialiased, RGB,
EXIF orientation applied. `crop=True` takes the model's own resize and crop, as timm's evaluation transform does it.
How files are decoded is said in `imagefile.py`.

Shapes: S pixels of a side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from umecache.encoders.base import Json
from umecache.encoders.imagefile import MAX_PIXELS, decode
from umecache.errors import UnreadableInput, UsageError

MAX_IMAGE_SIZE = 4096  # S
_INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How image files become an encoder's input.

    Args:
        image_size: S, pixels of a side.
        mean, std: per channel, for pixels in 0..1.
        crop: the model's own resize and crop instead of squashing the whole image.
        crop_pct, crop_mode, interpolation: of that crop, as timm's data configurations name them.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: bool = False
    crop_pct: float = 1.0
    crop_mode: str = "center"
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        if not 1 <= self.image_size <= MAX_IMAGE_SIZE:
            raise UsageError(f"--image-size {self.image_size} is not within 1 to {MAX_IMAGE_SIZE}.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(map(math.isfinite, values)):
                raise UsageError(
                    f"--{name} takes three finite numbers, for red, green and blue in 0..1; got {list(values)}.",
                    next=f"for example --{name} 0.5,0.5,0.5",
                )
        if min(self.std) <= 0:
            raise UsageError(f"--std takes numbers above 0; got {list(self.std)}.")
        if not self.crop:
            return
        if self.crop_mode not in ("center", "squash") or self.interpolation not in _INTERPOLATIONS:
            raise UsageError(
                f"The model's own crop ({self.crop_mode}, {self.interpolation}) is not known here.",
                next="leave out --crop",
            )
        if not 0 < self.crop_pct <= 1:
            raise UsageError(f"The model's own crop_pct {self.crop_pct} is not within 0 to 1.", next="leave out --crop")

    def recipe(self) -> dict[str, Json]:
        """The facts that decide pixel values; no library and no version among them."""
        interpolation = self.interpolation if self.crop else "bicubic"
        return {
            "image_size": self.image_size,
            "crop": self.crop_mode if self.crop else False,
            "crop_pct": self.crop_pct if self.crop else None,
            "interpolation": interpolation,
            "antialias": interpolation != "nearest",
            "mean": list(self.mean),
            "std": list(self.std),
            "colour": "RGB; high byte of 16 bits; transparency on white; CMYK without profile; first frame",
            "exif": "orientation applied",
        }

    def pixels(self, data: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Decode and resize one image file.

        Returns:
            [3, S, S] uint8, RGB; `(pixels / 255 - mean) / std` is the encoder's input.

        Raises:
            UnreadableInput: no image, cut short, broken, too large, or of a kind that is not read; says which.
        """
        image = decode(data)
        square = self._cropped(image) if self.crop else image.resize(self._square, Image.Resampling.BICUBIC)
        return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))

    @property
    def _square(self) -> tuple[int, int]:
        return self.image_size, self.image_size

    def _cropped(self, image: Image.Image) -> Image.Image:
        scaled = math.floor(self.image_size / self.crop_pct)
        if self.crop_mode == "squash":
            wide, high = scaled, scaled
        else:  # the shorter side to `scaled`, the longer one in proportion, rounded down
            short = min(image.size)
            wide, high = (int(scaled * side / short) for side in image.size)
        if wide * high > MAX_PIXELS:
            raise UnreadableInput(f"too narrow for --crop: {image.width} x {image.height} pixels")
        # Resized as a whole and then cut: Pillow's `box` would round the borders differently from timm.
        resized = image.resize((wide, high), Image.Resampling[self.interpolation.upper()])
        left, top = round((wide - self.image_size) / 2), round((high - self.image_size) / 2)
        return resized.crop((left, top, left + self.image_size, top + self.image_size))
