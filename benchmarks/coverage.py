"""Do the intervals of `umecache compare` cover the truth? Simulated comparisons with a known difference.

    python benchmarks/coverage.py --comparisons 1000 --json benchmarks/results/coverage.json

Each simulated comparison has two methods, several seeds, and questions in images. A score is 0 or 1; its chance depends
on the image (shared by both methods), on the method with that image, and on the seed. The truth is the integral over
all images and seeds. `--beside` prints the same of differences with seeds resampled instead of Student's t. Cost: three
minutes on one core, `--beside` ten more.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from umecache.analysis.statistics import Groups, bootstrap


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of comparison.

    Attributes:
        images, seeds: how many.
        shared, own, by_seed: spread of log odds over images, of a method's own part of it, and over seeds.
        difference: of the methods, in log odds.
        base: log odds of the first method.
        questions: of an image: "few" (1 to 5), "one", or "unequal" (every tenth image has forty).
    """

    images: int = 300
    seeds: int = 3
    shared: float = 0.8
    own: float = 0.4
    by_seed: float = 0.1
    difference: float = 0.3
    base: float = 0.0
    questions: Literal["few", "one", "unequal"] = "few"


CASES = {
    "seeds alike": Case(by_seed=0.0),
    "seeds differ a little": Case(by_seed=0.05),
    "seeds differ": Case(by_seed=0.15),
    "seeds differ much": Case(by_seed=0.4),
    "two seeds": Case(seeds=2),
    "two seeds, 60 coin flips": Case(60, 2, shared=0.0, own=0.0, by_seed=0.0, difference=0.0, questions="one"),
    "five seeds": Case(seeds=5),
    "ten seeds": Case(seeds=10),
    "one seed": Case(seeds=1, by_seed=0.0),
    "no difference": Case(difference=0.0),
    "30 images": Case(images=30),
    "12 images": Case(images=12),
    "12 images, one seed": Case(images=12, seeds=1, by_seed=0.0),
    "unequal images": Case(questions="unequal"),
    "40 unequal images": Case(images=40, questions="unequal"),
    "one question an image": Case(questions="one"),
    "nearly all right": Case(base=2.5),
}


def chances(rng: np.random.Generator, case: Case) -> Any:
    """Chance of a right answer, [2 methods, seeds, images]."""
    image_I = case.base + rng.normal(0, case.shared, case.images)
    own_2I = rng.normal(0, case.own, (2, case.images))
    seed_2S = rng.normal(0, case.by_seed, (2, case.seeds)) + np.array([[0.0], [case.difference]])
    return 1 / (1 + np.exp(-(image_I + own_2I[:, None] + seed_2S[:, :, None])))


def truth(case: Case) -> tuple[float, float]:
    """(accuracy of the second method, its difference to the first): integrals over all images and seeds."""
    points, weights = np.polynomial.hermite_e.hermegauss(80)
    values = case.base + np.sqrt(case.shared**2 + case.own**2 + case.by_seed**2) * points
    first, second = (
        float(weights @ (1 / (1 + np.exp(-(values + more)))) / weights.sum()) for more in (0.0, case.difference)
    )
    return second, second - first


def simulate(rng: np.random.Generator, case: Case) -> tuple[Any, Any]:
    """(scores [2, S, Q], image of each question [Q])."""
    chance_2SI = chances(rng, case)
    counts_I = np.ones(case.images, np.int64) if case.questions == "one" else rng.integers(1, 6, case.images)
    if case.questions == "unequal":
        counts_I[::10] = 40
    images_Q = np.repeat(np.arange(case.images), counts_I)
    return (rng.random((2, case.seeds, len(images_Q))) < chance_2SI[..., images_Q]).astype(np.float64), images_Q


def resampled(sums_SI: Any, sizes_I: Any, rounds: int, rng: np.random.Generator) -> tuple[float, float]:
    """The textbook way: images and seeds drawn with replacement, percentiles."""
    seeds, images = sums_SI.shape
    draws = []
    for _ in range(rounds):
        picked = rng.integers(0, images, images)
        draws.append(sums_SI[rng.integers(0, seeds, seeds)][:, picked].sum() / (seeds * sizes_I[picked].sum()))
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def coverage(name: str, comparisons: int, rounds: int, *, seed: int = 0, beside: bool = False) -> dict[str, float]:
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
    parser.add_argument("--beside", action="store_true", help="the textbook way beside it")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(argv)
    results = {}
    for name in CASES:
        results[name] = coverage(name, asked.comparisons, asked.rounds, beside=asked.beside)
        print(f"{name:26}" + "  ".join(f"{key} {value:.1%}" for key, value in results[name].items()), flush=True)
    if asked.json:
        document = {"comparisons": asked.comparisons, "rounds": asked.rounds, "coverage": results}
        asked.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
