"""Whether a map tells what a head looks at: deletion and insertion curves over image tokens, against random orders.

    told = faithfulness(chance, tokens_TD, filler_D, places, map_N, rng=np.random.default_rng(0))
    told.deletion, told.insertion, told.random          # areas under the curves, 0 to 1

Petsiuk, Das & Saenko, RISE (BMVC 2018, arXiv:1806.07421), section 4.1, with tokens in place of pixels. Deletion: tokens
are taken away, the map's highest first, and the probability of the explained answer is written down; the smaller the
area below, the better. Insertion: they come back in the same order; the larger the better. A token is taken away by
putting the store's mean token in its place: it stays within what heads have seen (zeros don't: LayerNorm leaves them
alone), tells nothing of this image, and keeps the number of tokens, which means and softmax depend on.

Random orders of the same tokens give what such areas are without any map. Where the map is flat (the zeros that ReLU
leaves) the order is random too. Deletion and insertion have the same area for a random order, in expectation; so

    gain = insertion - deletion

is 0 for a map that tells nothing. A head that hardly looks at the image has small gains whatever the map.

Shapes: T tokens, N of them with a position, D width, S steps, R random orders, Q questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

STEPS = 16  # points of a curve, the first one left out: each takes the same share of the tokens
ORDERS = 2  # random ones
_BATCH = 32  # variants of a question at once
Floats = NDArray[np.float64]
Chance = Callable[[Tensor], Tensor]
"""Tokens [S, T, D] -> probability of the explained answer [S]."""


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """Of one map of one question.

    Attributes:
        shares: of the tokens that are changed [S], from 0 to 1.
        deletion_curve, insertion_curve: the probability at each share [S].
        deletion, insertion, random: areas under them, and the mean area of random orders.
    """

    shares: Floats
    deletion_curve: Floats
    insertion_curve: Floats
    deletion: float
    insertion: float
    random: float

    @property
    def gain(self) -> float:
        """insertion - deletion."""
        return self.insertion - self.deletion


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over questions, with their standard errors (NaN of one question)."""

    questions: int
    deletion: tuple[float, float]
    insertion: tuple[float, float]
    random: tuple[float, float]
    gain: tuple[float, float]


def faithfulness(
    chance: Chance,
    tokens_TD: Tensor,
    filler_D: Tensor,
    places_N: Tensor,
    map_N: Tensor,
    *,
    rng: np.random.Generator,
    steps: int = STEPS,
    orders: int = ORDERS,
) -> Faithfulness:
    """Deletion and insertion of one map.

    Args:
        chance: the probability of the explained answer for variants of this question.
        tokens_TD: its image tokens.
        filler_D: what stands for a token that is taken away.
        places_N: positions in T of the tokens with a position.
        map_N: their values.
        rng: of random orders and of ties.
        steps: points of a curve, at most N.
        orders: random ones.
    """
    count = len(places_N)
    taken_S = np.unique(np.linspace(0, count, min(steps, count) + 1).round().astype(int))
    shares_S = taken_S / count
    ranked = ranking(map_N.detach().cpu().double().numpy(), rng)
    plans = [ranked, *(rng.permutation(count) for _ in range(orders))]
    gone = [order[:taken] for order in plans for taken in taken_S]
    gone += [ranked[taken:] for taken in taken_S]
    places = places_N.cpu().numpy()
    found = []
    for first in range(0, len(gone), _BATCH):
        part = gone[first : first + _BATCH]
        variants_STD = tokens_TD.expand(len(part), -1, -1).clone()
        for variant_TD, chosen in zip(variants_STD, part, strict=True):
            variant_TD[places[chosen]] = filler_D
        found.append(chance(variants_STD).double().cpu().numpy())
    curves = np.concatenate(found).reshape(len(plans) + 1, len(taken_S))
    areas = [area(shares_S, curve_S) for curve_S in curves]
    random = float(np.mean(areas[1:-1])) if orders else float("nan")
    return Faithfulness(shares_S, curves[0], curves[-1], areas[0], areas[-1], random)


def area(shares_S: Floats, curve_S: Floats) -> float:
    """Under a curve of straight lines."""
    return float(((curve_S[1:] + curve_S[:-1]) / 2 * np.diff(shares_S)).sum())


def ranking(values_N: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions from the highest value to the lowest, equal ones in random order."""
    return np.lexsort((rng.random(len(values_N)), -values_N))


def summarise(found: Sequence[Faithfulness]) -> Summary:
    """Means over questions."""

    def mean(values: Sequence[float]) -> tuple[float, float]:
        spread = float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        return float(np.mean(values)), spread

    return Summary(
        len(found),
        mean([each.deletion for each in found]),
        mean([each.insertion for each in found]),
        mean([each.random for each in found]),
        mean([each.gain for each in found]),
    )
