"""Do the intervals of `umecache compare` cover the truth? Simulated comparisons with a known difference.

    python benchmarks/coverage.py --comparisons 1000 --json benchmarks/results/coverage.json

Each simulated comparison has two methods, several seeds, and questions in images. A score is 0 or 1; its chance depends
on the image (shared by both methods), on the method with that image, and on the seed. The truth is the
integral over all images and seeds. Printed beside it: the same with seeds resampled instead of Student's t. Cost: a few
minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from umecache.analysis.statistics import Groups, bootstrap

# Images, seeds, spread over images, of a method's own part of it, over seeds; the difference of the methods.
CASES: dict[str, tuple[int, int, float, float, float, float]] = {
    "seeds alike": (300, 3, 0.8, 0.4, 0.0, 0.3),
    "seeds differ a little": (300, 3, 0.8, 0.4, 0.05, 0.3),
    "seeds differ much": (300, 3, 0.8, 0.4, 0.4, 0.3),
    "five seeds": (300, 5, 0.8, 0.4, 0.1, 0.3),
    "no difference": (300, 3, 0.8, 0.4, 0.1, 0.0),
    "one seed": (300, 1, 0.8, 0.4, 0.0, 0.3),
}


def chances(
    rng: np.random.Generator, images: int, seeds: int, shared: float, own: float, by_seed: float, difference: float
) -> Any:
    """Chance of a right answer, [2 methods, seeds, images]."""
    image_I = rng.normal(0, shared, images)
    own_2I = rng.normal(0, own, (2, images))
    seed_2S = rng.normal(0, by_seed, (2, seeds)) + np.array([[0.0], [difference]])
    return 1 / (1 + np.exp(-(image_I + own_2I[:, None] + seed_2S[:, :, None])))


def truth(case: tuple[int, int, float, float, float, float]) -> tuple[float, float]:
    """(accuracy of the second method, its difference to the first): integrals over all images and seeds."""
    *_, shared, own, by_seed, difference = case
    points, weights = np.polynomial.hermite_e.hermegauss(80)
    spread = np.sqrt(shared**2 + own**2 + by_seed**2)
    first, second = (float(weights @ (1 / (1 + np.exp(-(mean + spread * points))))) for mean in (0.0, difference))
    return second / float(weights.sum()), (second - first) / float(weights.sum())


def simulate(rng: np.random.Generator, case: tuple[int, int, float, float, float, float]) -> tuple[Any, Any]:
    """(scores [2, S, Q], image of each question [Q])."""
    chance_2SI = chances(rng, *case)
    images_Q = np.repeat(np.arange(case[0]), rng.integers(1, 6, case[0]))
    return (rng.random((2, case[1], len(images_Q))) < chance_2SI[..., images_Q]).astype(np.float64), images_Q


def resampled(sums_SI: Any, sizes_I: Any, rounds: int, rng: np.random.Generator) -> tuple[float, float]:
    """The textbook way: images and seeds drawn with replacement, percentiles."""
    seeds, images = sums_SI.shape
    draws = []
    for _ in range(rounds):
        picked = rng.integers(0, images, images)
        draws.append(sums_SI[rng.integers(0, seeds, seeds)][:, picked].sum() / (seeds * sizes_I[picked].sum()))
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def coverage(name: str, comparisons: int, rounds: int, *, seed: int = 0, beside: bool = True) -> dict[str, float]:
    """Shares of comparisons whose interval covers the truth, and of differences found at p < 0.05."""
    case, rng = CASES[name], np.random.default_rng(seed)
    accuracy, difference = truth(case)
    hits = {"accuracy": 0, "difference": 0, "p below 0.05": 0} | ({"seeds resampled": 0} if beside else {})
    for _ in range(comparisons):
        scores_2SQ, images_Q = simulate(rng, case)
        groups = Groups.of(images_Q)
        sums = groups.sums(scores_2SQ)
        both = np.stack([sums[1], sums[1] - sums[0]])
        found = bootstrap(both, groups.sizes, rounds=rounds, seed=int(rng.integers(1 << 30)))
        hits["accuracy"] += bool(found.low[0] <= accuracy <= found.high[0])
        hits["difference"] += bool(found.low[1] <= difference <= found.high[1])
        hits["p below 0.05"] += bool(found.p[1] < 0.05)
        if beside:
            low, high = resampled(both[1], groups.sizes, rounds // 2, rng)
            hits["seeds resampled"] += low <= difference <= high
    return {key: count / comparisons for key, count in hits.items()}


def main(argv: list[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--comparisons", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(argv)
    results = {}
    for name in CASES:
        results[name] = coverage(name, asked.comparisons, asked.rounds)
        print(f"{name:24}" + "  ".join(f"{key} {value:.1%}" for key, value in results[name].items()), flush=True)
    if asked.json:
        document = {"comparisons": asked.comparisons, "rounds": asked.rounds, "coverage": results}
        asked.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
