"""Scenes: what is described is what is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from umecache.data.scenes import COLORS, GAP, GROUNDS, KINDS, MIN_DISTANCE, SIZE, Scene, Shape, draw, make_scene

SCENES = [make_scene(image_id, seed=5) for image_id in range(200)]


def test_same_arguments_same_scene() -> None:
    assert make_scene(3, seed=1) == make_scene(3, seed=1)
    assert make_scene(3, seed=1) != make_scene(3, seed=2)
    assert make_scene(3, seed=1).shapes != make_scene(4, seed=1).shapes


def test_same_scene_same_pixels() -> None:
    for scene in SCENES[:8]:
        np.testing.assert_array_equal(np.asarray(draw(scene)), np.asarray(draw(scene)))


def test_scenes_vary() -> None:
    assert {len(scene.shapes) for scene in SCENES} == {1, 2, 3, 4}
    assert {shape.kind for scene in SCENES for shape in scene.shapes} == set(KINDS)
    assert {shape.color for scene in SCENES for shape in scene.shapes} == set(COLORS)
    assert {scene.ground for scene in SCENES} == set(GROUNDS)


def test_shapes_stay_inside_and_apart() -> None:
    for scene in SCENES:
        for number, shape in enumerate(scene.shapes):
            reach = 1.25 * shape.radius
            assert reach <= shape.x <= SIZE - reach
            assert reach <= shape.y <= SIZE - reach
            for other in scene.shapes[:number]:
                distance = math.dist((shape.x, shape.y), (other.x, other.y))
                assert distance >= max(MIN_DISTANCE, shape.radius + other.radius + GAP)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ground", GROUNDS)
def test_each_shape_is_painted_where_it_is_said_to_be(kind: str, ground: str) -> None:
    for number, color in enumerate(COLORS):
        scene = Scene(number, 0, ground, "plain", (Shape(kind, color, "large", 40.0, 80.0, 17.0, 5.0),))
        pixels = np.asarray(draw(scene)).astype(int)
        assert pixels.shape == (SIZE, SIZE, 3)
        centre = pixels[78:83, 38:43].reshape(-1, 3)
        assert np.abs(centre - np.array(COLORS[color])).max() <= 14
        # Of the painted pixels the middle is the shape's, and their number about that of a circle of its radius.
        painted = np.argwhere(np.abs(pixels - np.array(GROUNDS[ground])).max(-1) > 12)
        assert np.abs(painted.mean(0) - [80, 40]).max() < 3.0
        assert 0.55 < len(painted) / (math.pi * 17.0**2) < 1.25


def test_kinds_look_different() -> None:
    masks = []
    for kind in KINDS:
        picture = draw(Scene(0, 0, "white", "plain", (Shape(kind, "blue", "large", 64.0, 64.0, 18.0, 0.0),)))
        masks.append(np.asarray(picture).astype(int)[..., 0] < 140)
    for number, mask in enumerate(masks):
        assert all((mask != other).mean() > 0.008 for other in masks[:number])


def test_a_larger_seed_or_id_is_fine() -> None:
    assert draw(make_scene(10**9, seed=10**9)).size == (SIZE, SIZE)
