"""How sure a comparison is: intervals and differences of accuracies, over questions and over seeds.

    groups = Groups.of(images_Q)
    found = bootstrap(groups.sums(scores_MSQ), groups.sizes)      # means and 95 % intervals of M methods
    found = bootstrap(sums_MSI[1:] - sums_MSI[:1], groups.sizes)  # paired differences to the first, with p-values
    adjusted = holm(found.p)

Questions about one image are not independent, so images are drawn, with all their questions (a cluster bootstrap:
Davison & Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). All methods get the same draws, which is
what pairs them.

Seeds can't be handled like that: there are three to five, and a resampled handful varies too little (in
`benchmarks/coverage.py`, where seeds differ much, resampling three of them covers the truth in 76 % of cases instead of
95). So each draw adds a step for the seeds: Student's t with S - 1 degrees of freedom times the standard error over
seeds. Both parts hold what is due to single questions (another seed gets other questions right); it is estimated by
analysis of variance and taken out of the images' part, which is shrunk by so much. One seed tells nothing of seeds:
intervals are then of that head only.

Shapes: M methods, C quantities (methods or differences), S seeds, Q questions, I images, R rounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Index = NDArray[np.int64]

ROUNDS = 2000
CONFIDENCE = 0.95
_CHUNK = 64  # rounds at once: 64 x 40,504 weights take 21 MB


@dataclass(frozen=True, slots=True)
class Groups:
    """Questions by image.

    Attributes:
        place: which image [Q], 0 to I - 1.
        sizes: questions per image [I].
    """

    place: Index
    sizes: Floats

    @classmethod
    def of(cls, images_Q: NDArray[np.int64]) -> Groups:
        """Groups of equal image ids."""
        _, place_Q = np.unique(images_Q, return_inverse=True)
        place_Q = place_Q.astype(np.int64)
        return cls(place_Q, np.bincount(place_Q).astype(np.float64))

    def sums(self, scores_MSQ: NDArray[np.floating]) -> Floats:
        """Per image [M, S, I], the sum of its questions' scores."""
        flat = scores_MSQ.reshape(-1, scores_MSQ.shape[-1])
        sums = np.empty((len(flat), len(self.sizes)))
        for place, row in enumerate(flat):
            sums[place] = np.bincount(self.place, row, len(self.sizes))
        return sums.reshape(*scores_MSQ.shape[:-1], -1)


@dataclass(frozen=True, slots=True)
class Estimates:
    """Of C quantities.

    Attributes:
        mean, low, high: the quantity and the ends of its interval [C].
        p: two-sided, against 0 [C]; at least 1 / (R + 1).
    """

    mean: Floats
    low: Floats
    high: Floats
    p: Floats


def bootstrap(
    sums_CSI: Floats, sizes_I: Floats, *, rounds: int = ROUNDS, seed: int = 0, confidence: float = CONFIDENCE
) -> Estimates:
    """Means over questions and seeds, and how far they may be from those over all images and all seeds.

    Args:
        sums_CSI: per image sums of scores, or of differences of scores with the seeds paired.
        sizes_I: questions per image; images without any are left out.
        rounds: bootstrap rounds.
        seed: of the draws; equal seeds and sizes draw the same images.
        confidence: of the intervals.

    Raises:
        ValueError: no questions.
    """
    kept = sizes_I > 0
    sums_CSI, sizes_I = sums_CSI[..., kept], sizes_I[kept]
    if not len(sizes_I):
        raise ValueError("no questions to take a mean of")
    questions = sizes_I.sum()
    by_seed_CS = sums_CSI.sum(-1) / questions
    mean_C = by_seed_CS.mean(-1)
    rng = np.random.default_rng(seed)
    around_RC = _images(sums_CSI.mean(1) - mean_C[:, None] * sizes_I, sizes_I, rounds, rng)
    seeds = sums_CSI.shape[1]
    if seeds > 1:
        error_C = np.sqrt(by_seed_CS.var(-1, ddof=1) / seeds)
        around_RC *= _shrink(around_RC.var(0), _single_questions(sums_CSI, sizes_I, by_seed_CS))
        around_RC += rng.standard_t(seeds - 1, (rounds, len(mean_C))) * error_C
    tail = (1 - confidence) / 2
    low_C, high_C = mean_C + np.quantile(around_RC, [tail, 1 - tail], axis=0)
    # What is left of sums of floats is no difference.
    p_C = (1 + (np.abs(around_RC) >= np.abs(mean_C) - 1e-12).sum(0)) / (rounds + 1)
    return Estimates(mean_C, low_C, high_C, p_C)


def holm(p: Floats) -> Floats:
    """p-values of several tests, corrected so that the chance of any false alarm is kept (Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return adjusted


def agreement(answers_MSQ: NDArray[np.integer]) -> Floats:
    """How often two methods give the same answer [M, M], share of questions, mean over seeds with the seeds paired; on
    the diagonal, two seeds of one method (NaN with one seed).
    """
    methods, seeds, _ = answers_MSQ.shape
    same_MM = np.full((methods, methods), np.nan)
    for one in range(methods):
        pairs = [(a, b) for a in range(seeds) for b in range(a)]
        if pairs:
            same_MM[one, one] = np.mean([(answers_MSQ[one, a] == answers_MSQ[one, b]).mean() for a, b in pairs])
        for other in range(one):
            same_MM[one, other] = same_MM[other, one] = (answers_MSQ[one] == answers_MSQ[other]).mean()
    return same_MM


def _images(centred_CI: Floats, sizes_I: Floats, rounds: int, rng: np.random.Generator) -> Floats:
    """Deviations of the mean [R, C] when images are drawn with replacement."""
    images = len(sizes_I)
    columns_IC = np.ascontiguousarray(np.vstack([centred_CI, sizes_I]).T)
    found = []
    for start in range(0, rounds, _CHUNK):
        times = [
            np.bincount(rng.integers(0, images, images), minlength=images) for _ in range(min(_CHUNK, rounds - start))
        ]
        sums = np.stack(times).astype(np.float64) @ columns_IC
        found.append(sums[:, :-1] / sums[:, -1:])
    return np.concatenate(found)


def _single_questions(sums_CSI: Floats, sizes_I: Floats, by_seed_CS: Floats) -> Floats:
    """Variance [C] of the mean that is due to single questions under single seeds: the interaction of the two."""
    seeds, questions = sums_CSI.shape[1], sizes_I.sum()
    found_C = np.empty(len(sums_CSI))
    for place, (sums_SI, means_S) in enumerate(zip(sums_CSI, by_seed_CS, strict=True)):  # one at a time: memory
        centred_SI = sums_SI - means_S[:, None] * sizes_I
        found_C[place] = ((centred_SI - centred_SI.mean(0)) ** 2).sum() / ((seeds - 1) * seeds * questions**2)
    return found_C


def _shrink(variance_C: Floats, part_C: Floats) -> Floats:
    """What deviations are multiplied by to lose a part of their variance."""
    left_C = np.divide(variance_C - part_C, variance_C, out=np.zeros_like(variance_C), where=variance_C > 0)
    return np.asarray(np.sqrt(np.maximum(0.0, left_C)))
