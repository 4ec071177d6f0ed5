"""The order in which questions are seen."""

from __future__ import annotations

import numpy as np

from umecache.training.order import epoch_order


def test_the_order_is_a_shuffle_that_its_seed_and_epoch_decide() -> None:
    index = np.arange(100, 200)
    order = epoch_order(index, order_seed=3, epoch=1)
    assert sorted(order) == list(index)
    assert np.array_equal(order, epoch_order(index, order_seed=3, epoch=1))
    assert not np.array_equal(order, epoch_order(index, order_seed=3, epoch=2))
    assert not np.array_equal(order, epoch_order(index, order_seed=4, epoch=1))


def test_an_order_by_windows_keeps_an_image_s_questions_together() -> None:
    images = np.repeat(np.arange(50), 6)[np.random.default_rng(0).permutation(300)]
    index = np.flatnonzero(np.arange(300) % 7)
    order = epoch_order(index, order_seed=1, epoch=0, images=images, window=8)
    assert sorted(order) == list(index)
    assert not np.array_equal(order, epoch_order(index, order_seed=1, epoch=1, images=images, window=8))
    first, last = {}, {}
    for place, image in enumerate(images[order].tolist()):
        first.setdefault(image, place)
        last[image] = place
    assert max(last[image] - first[image] for image in first) < 8 * 6
    seen = images[order[:48]]
    assert len(set(seen[:8].tolist())) > 3  # and inside a window they are shuffled
