"""The order in which questions are seen. Importing this loads no torch.

order = epoch_order(np.arange(443_757), order_seed=0, epoch=3)
order = epoch_order(np.arange(443_757), order_seed=0, epoch=3, images=image_of_question, window=1024)
"""

from __future__ import annotations

from typing import Any

import numpy as np

Index = np.ndarray[Any, np.dtype[np.int64]]


def epoch_order(index: Index, *, order_seed: int, epoch: int, images: Index | None = None, window: int = 1024) -> Index:
    """The order of one epoch: the same for every head that shares the read.

    Args:
        images: the image of each question of the split. Then images are shuffled and cut into windows, and questions
            are shuffled inside a window, so that all questions about an image come soon after each other; None: all
            questions are shuffled.
        window: images of a window.
    """
    rng = np.random.default_rng([order_seed, epoch])
    if images is None:
        return rng.permutation(index)
    distinct_images, image_of = np.unique(images[index], return_inverse=True)
    window_of = rng.permutation(len(distinct_images))[image_of] // window
    return index[np.lexsort((rng.random(len(index)), window_of))]
