"""Drawn scenes: one to four coloured shapes on a plain, shaded, striped or speckled ground.

    scene = make_scene(image_id=7, seed=0)
    draw(scene).save("scene.jpg")

A scene depends on its seed and its image id alone, so a larger sample begins with the smaller one's pictures. The
description (`Scene`) is the truth that questions are asked about (`umecache.data.sample`); the picture is what
encoders see.

Units: pixels of a 128 x 128 picture, x to the right, y downwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw

SIZE = 128  # pixels, both sides
KINDS = ("circle", "square", "triangle", "star")
COLORS = {
    "red": (214, 40, 40),
    "yellow": (252, 220, 40),
    "green": (46, 160, 67),
    "blue": (36, 97, 214),
    "purple": (140, 60, 190),
}
GROUNDS = {
    "white": (246, 246, 244),
    "grey": (190, 193, 196),
    "sand": (226, 213, 190),
    "sky": (205, 222, 234),
    "slate": (74, 82, 92),
    "black": (28, 28, 30),
}
TEXTURES = ("plain", "shade", "stripes", "speckle")
RADII = {"small": (10.0, 12.0), "large": (16.0, 19.0)}
GAP = 5.0  # pixels of ground between two shapes
MIN_DISTANCE = 45.3  # between centres: more than the diagonal of a 32-pixel cell, so that no two share a cell
_OVERSAMPLING = 3  # drawn this much larger, then reduced: smooth edges


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape. `radius` is that of a circle of about the same area; `turn` is in degrees."""

    kind: str
    color: str
    size: str
    x: float
    y: float
    radius: float
    turn: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What is drawn in one picture."""

    image_id: int
    seed: int
    ground: str
    texture: str
    shapes: tuple[Shape, ...]


def make_scene(image_id: int, seed: int = 0) -> Scene:
    """Invent the scene of picture `image_id`: one to four shapes that do not touch."""
    rng = Random(f"umecache scene {seed} {image_id}")
    shapes: list[Shape] = []
    for _ in range(rng.choice((1, 2, 2, 3, 3, 4))):
        # Every third shape repeats an earlier kind, and every third an earlier colour: counts above one, and
        # questions such as "the red shape" that not every picture allows.
        kind = rng.choice(shapes).kind if shapes and rng.random() < 0.33 else rng.choice(KINDS)
        color = rng.choice(shapes).color if shapes and rng.random() < 0.33 else rng.choice(list(COLORS))
        size = rng.choice(list(RADII))
        radius = round(rng.uniform(*RADII[size]), 1)
        place = _free_place(rng, radius, shapes)
        if place is not None:
            shapes.append(Shape(kind, color, size, *place, radius, round(rng.uniform(-18, 18), 1)))
    return Scene(image_id, seed, rng.choice(list(GROUNDS)), rng.choice(TEXTURES), tuple(shapes))


def _free_place(rng: Random, radius: float, taken: list[Shape]) -> tuple[float, float] | None:
    """A centre whose shape stays inside the picture and clear of the others; None after 200 misses."""
    edge = 1.25 * radius + 1  # a star's points reach 1.25 radii
    for _ in range(200):
        x, y = round(rng.uniform(edge, SIZE - edge), 1), round(rng.uniform(edge, SIZE - edge), 1)
        if all(math.dist((x, y), (s.x, s.y)) >= max(MIN_DISTANCE, radius + s.radius + GAP) for s in taken):
            return x, y
    return None


def draw(scene: Scene) -> Image.Image:
    """The picture of `scene`, RGB, 128 x 128; the same pixels every time."""
    noise = np.random.default_rng([scene.seed, scene.image_id])
    canvas = Image.fromarray(_ground(scene, noise)).resize((SIZE * _OVERSAMPLING,) * 2, Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(canvas)
    for shape in scene.shapes:
        # Paint differs a little from shape to shape, so that a colour is a region and no single value.
        red, green, blue = (int(np.clip(c + noise.integers(-14, 15), 0, 255)) for c in COLORS[shape.color])
        _paint(pen, shape, (red, green, blue))
    return canvas.resize((SIZE, SIZE), Image.Resampling.BOX)


def _ground(scene: Scene, noise: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The ground's pixels [SIZE, SIZE, 3] uint8."""
    pixels = np.full((SIZE, SIZE, 3), GROUNDS[scene.ground], dtype=np.float32)
    along = np.linspace(-1, 1, SIZE, dtype=np.float32)
    angle = noise.uniform(0, 2 * math.pi)
    ramp = along[None, :] * math.cos(angle) + along[:, None] * math.sin(angle)  # [SIZE, SIZE], about -1.4..1.4
    if scene.texture == "shade":
        pixels += 18 * ramp[..., None]
    elif scene.texture == "stripes":
        pixels += 9 * np.sign(np.sin(ramp * noise.uniform(9, 22)))[..., None]
    elif scene.texture == "speckle":
        pixels += noise.normal(0, 9, (SIZE, SIZE, 1))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _paint(pen: ImageDraw.ImageDraw, shape: Shape, fill: tuple[int, int, int]) -> None:
    x, y, r = (value * _OVERSAMPLING for value in (shape.x, shape.y, shape.radius))
    if shape.kind == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        return
    corners = {
        "square": _corners(4, 1.2, 1.2, 45),
        "triangle": _corners(3, 1.25, 1.25, -90),
        "star": _corners(10, 1.25, 0.55, -90),
    }[shape.kind]
    turn = math.radians(shape.turn)
    points = [
        (
            x + r * (px * math.cos(turn) - py * math.sin(turn)),
            y + r * (px * math.sin(turn) + py * math.cos(turn)),
        )
        for px, py in corners
    ]
    pen.polygon(points, fill=fill)


def _corners(count: int, outer: float, inner: float, start: float) -> list[tuple[float, float]]:
    """Corners on two circles in turn (radii `outer`, `inner`), the first at `start` degrees."""
    angles = (math.radians(start + 360 * k / count) for k in range(count))
    return [((outer, inner)[k % 2] * math.cos(a), (outer, inner)[k % 2] * math.sin(a)) for k, a in enumerate(angles)]
