"""How sure a comparison is: intervals and differences of accuracies, over questions and over seeds.

    groups = Groups.of(images_Q)
    found = bootstrap(groups.sums(scores_MSQ), groups.sizes)      # means and 95 % intervals of M methods
    found = bootstrap(sums_MSI[1:] - sums_MSI[:1], groups.sizes)  # paired differences to the first, with p-values
    adjusted = holm(found.p)

Questions about one image are not independent, so images are drawn, with all their questions (a cluster bootstrap:
Davison & Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). All methods get the same draws, which is
what pairs them. An image with many of the questions pulls the mean towards itself and so looks closer to it than it is;
what it adds is divided by the root of one minus its share (CR2: Bell & McCaffrey, Survey Methodology 28, 2002, for a
mean), which with images of one size is the factor I / (I - 1).

Seeds can't be handled like that: there are three to five, and a resampled handful varies too little (in
`benchmarks/coverage.py --beside`, where seeds differ much, three of them resampled cover the truth in 76 % of cases
instead of 95). Seeds that answer the same questions are what radiology calls readers of the same cases, and its
analysis is used (Obuchowski & Rockette, Communications in Statistics - Simulation 24, 1995): the variance of the mean
is that between seeds over S, plus the covariance of two seeds through the images. The latter is the bootstrap's
variance without what is due to single questions under single seeds, which the variance between seeds holds already.

So each round is a draw of images, shrunk to that covariance, plus a normal step for the seeds, made Student's t by a
chi-square. Its degrees of freedom lie between S - 1, where seeds make all of the variance, and those of the images.
The usual rule (Satterthwaite; Hillis, Statistics in Medicine 26, 2007) weighs by squared shares of the variance. It
is too sure with two degrees of freedom, where three seeds alike by chance pass for many. Plain shares are used, the
first order of the critical values of Cochran & Cox (Experimental Designs, 1950). A t step for the seeds alone, beside
the draws of images, errs the other way: intervals that cover 98 % and say 95. One seed tells nothing of seeds:
intervals are then of that head only.

Two seeds often have equal totals by chance (one comparison in twenty, of 60 coin flips each). Their variance is then 0,
and where the covariance comes out at 0 as well, as it does in half of the cases without any, an interval would have no
width. Seeds of equal totals are counted as seeds that differ in single questions only: what is due to those takes the
place of the variance between seeds, as sure as the images make it. Only equal scores give an interval without width.

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
_ROUNDING = 1e-12  # of a variance: below it sums of floats differ, not seeds
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
    questions, seeds = sizes_I.sum(), sums_CSI.shape[1]
    by_seed_CS = sums_CSI.sum(-1) / questions
    mean_C = by_seed_CS.mean(-1)
    # One image tells nothing of images: its share is 1, what it adds is 0.
    weight_I = np.sqrt(1 - sizes_I / questions, out=np.ones_like(sizes_I), where=sizes_I < questions)
    rng = np.random.default_rng(seed)
    around_RC = _images((sums_CSI.mean(1) - mean_C[:, None] * sizes_I) / weight_I, sizes_I, rounds, rng)
    images_C = around_RC.var(0)
    freedom_C = np.full_like(images_C, _freedom(sizes_I))
    if seeds > 1:
        single_C = _single_questions(sums_CSI, sizes_I, by_seed_CS, weight_I)
        shared_C = np.maximum(0.0, images_C - single_C)
        between_C = by_seed_CS.var(-1, ddof=1) / seeds
        between_C[between_C <= _ROUNDING * single_C] = 0.0
        share_C = _over(between_C, shared_C + between_C)
        between_C = np.where(between_C > 0, between_C, single_C)  # equal totals: see above
        around_RC *= np.sqrt(_over(shared_C, images_C))
        around_RC += rng.standard_normal((rounds, 1)) * np.sqrt(between_C)
        freedom_C = 1 / (share_C / (seeds - 1) + (1 - share_C) / freedom_C)
    # Equal quantities get equal intervals: each starts anew from one state.
    state = int(rng.integers(1 << 30))
    for place, freedom in enumerate(freedom_C):
        around_RC[:, place] /= np.sqrt(np.random.default_rng(state).chisquare(freedom, rounds) / freedom)
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


def _freedom(sizes_I: Floats) -> float:
    """Degrees of freedom of the variance over images: I - 1 for images of one size, fewer where some hold much."""
    return max(1.0, float(sizes_I.sum() ** 2 / (sizes_I**2).sum()) - 1)


def _single_questions(sums_CSI: Floats, sizes_I: Floats, by_seed_CS: Floats, weight_I: Floats) -> Floats:
    """Variance [C] of the mean that is due to single questions under single seeds: the interaction of the two."""
    seeds, questions = sums_CSI.shape[1], sizes_I.sum()
    found_C = np.empty(len(sums_CSI))
    for place, (sums_SI, means_S) in enumerate(zip(sums_CSI, by_seed_CS, strict=True)):  # one at a time: memory
        centred_SI = (sums_SI - means_S[:, None] * sizes_I) / weight_I
        found_C[place] = ((centred_SI - centred_SI.mean(0)) ** 2).sum() / ((seeds - 1) * seeds * questions**2)
    return found_C


def _over(part_C: Floats, whole_C: Floats) -> Floats:
    """part / whole, 0 where the whole is."""
    return np.divide(part_C, whole_C, out=np.zeros_like(whole_C), where=whole_C > 0)
