"""Intervals, differences and corrections, against scipy, plain references and simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from umecache.analysis.statistics import Groups, agreement, bootstrap, holm


def scores(seed: int = 0, methods: int = 2, seeds: int = 3, images: int = 80) -> tuple[Any, Any]:
    """Scores [M, S, Q] in which questions of one image go together, and the image of each question."""
    rng = np.random.default_rng(seed)
    images_Q = rng.permutation(np.repeat(np.arange(images) * 7 + 5, rng.integers(1, 5, images)))
    chance_I = rng.random((methods, 1, images * 7 + 5))
    return (rng.random((methods, seeds, len(images_Q))) < chance_I[..., images_Q]).astype(np.float32), images_Q


def test_sums_per_image_are_those_of_a_plain_loop() -> None:
    scores_MSQ, images_Q = scores()
    groups = Groups.of(images_Q)
    sums_MSI = groups.sums(scores_MSQ)
    for place, image in enumerate(sorted(set(images_Q.tolist()))):
        chosen = images_Q == image
        assert groups.sizes[place] == chosen.sum()
        np.testing.assert_allclose(sums_MSI[..., place], scores_MSQ[..., chosen].sum(-1))


def test_the_mean_is_the_plain_mean_of_questions_and_seeds() -> None:
    scores_MSQ, images_Q = scores()
    groups = Groups.of(images_Q)
    found = bootstrap(groups.sums(scores_MSQ), groups.sizes, rounds=10)
    np.testing.assert_allclose(found.mean, scores_MSQ.mean((1, 2)))


def test_one_question_per_image_and_one_seed_is_the_bootstrap_of_scipy() -> None:
    values = np.random.default_rng(1).random(200)
    groups = Groups.of(np.arange(200))
    found = bootstrap(groups.sums(values[None, None]), groups.sizes, rounds=6000)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=6000, rng=2).confidence_interval
    width = theirs.high - theirs.low
    assert abs(found.low[0] - theirs.low) < 0.05 * width
    assert abs(found.high[0] - theirs.high) < 0.05 * width


def test_where_only_seeds_differ_the_interval_is_that_of_t() -> None:
    by_seed = np.array([0.40, 0.47, 0.52])
    groups = Groups.of(np.arange(500) // 5)
    found = bootstrap(groups.sums(np.broadcast_to(by_seed[None, :, None], (1, 3, 500))), groups.sizes, rounds=40_000)
    low, high = stats.t.interval(0.95, 2, by_seed.mean(), stats.sem(by_seed))
    assert found.low[0] == pytest.approx(low, abs=0.04 * (high - low))
    assert found.high[0] == pytest.approx(high, abs=0.04 * (high - low))
    assert found.p[0] == pytest.approx(stats.ttest_1samp(by_seed, 0.0).pvalue, rel=0.2)


def test_one_large_image_among_few_widens_the_interval_as_the_jackknife_does() -> None:
    """The variance over images is CR2: between the plain cluster estimate and the jackknife over images."""
    rng = np.random.default_rng(2)
    images_Q = np.repeat(np.arange(10), [40] + [4] * 9)
    values_Q = (rng.random(len(images_Q)) < 0.3 + 0.5 * rng.random(10)[images_Q]).astype(float)
    groups = Groups.of(images_Q)
    plain = ((groups.sums(values_Q[None, None])[0, 0] - values_Q.mean() * groups.sizes) ** 2).sum() / len(values_Q) ** 2
    left_out = np.array([values_Q[images_Q != image].mean() for image in range(10)])
    jackknife = 0.9 * ((left_out - values_Q.mean()) ** 2).sum()
    freedom = len(values_Q) ** 2 / (groups.sizes**2).sum() - 1
    found = bootstrap(groups.sums(values_Q[None, None]), groups.sizes, rounds=20_000)
    half = (found.high[0] - found.low[0]) / 2 / stats.t.ppf(0.975, freedom)
    assert np.sqrt(plain) * 1.05 < half < np.sqrt(jackknife)


def test_the_degrees_of_freedom_lie_between_seeds_and_images() -> None:
    """Seeds and images of known shares: the width is Student's t with the mean of 1 / df, weighed by shares."""
    rng = np.random.default_rng(6)
    seeds, images = 3, 400
    image_I, by_seed_S = rng.normal(size=images), np.array([-0.07, 0.0, 0.07])
    values_SQ = by_seed_S[:, None] + image_I  # no interaction: all of the images' part is shared
    groups = Groups.of(np.arange(images))
    found = bootstrap(groups.sums(values_SQ[None]), groups.sizes, rounds=40_000)
    between, shared = by_seed_S.var(ddof=1) / seeds, image_I.var(ddof=1) / images
    share = between / (between + shared)
    freedom = 1 / (share / (seeds - 1) + (1 - share) / (images - 1))
    half = stats.t.ppf(0.975, freedom) * np.sqrt(between + shared)
    assert 0.2 < share < 0.8
    assert (found.high[0] - found.low[0]) / 2 == pytest.approx(half, rel=0.04)


def test_one_image_and_one_seed_give_no_interval_and_no_warning() -> None:
    found = bootstrap(np.array([[[3.0]]]), np.array([5.0]))
    assert (found.mean[0], found.low[0], found.high[0]) == (0.6, 0.6, 0.6)


def test_clusters_widen_the_interval_as_much_as_they_must() -> None:
    """Ten questions that share one answer are one question."""
    values_I = np.random.default_rng(3).random(60)
    copies, alone = Groups.of(np.repeat(np.arange(60), 10)), Groups.of(np.arange(60))
    many = bootstrap(copies.sums(np.repeat(values_I, 10)[None, None]), copies.sizes)
    one = bootstrap(alone.sums(values_I[None, None]), alone.sizes)
    np.testing.assert_allclose([many.low, many.high], [one.low, one.high])


def test_two_copies_of_one_method_do_not_differ() -> None:
    scores_MSQ, images_Q = scores(methods=1)
    groups = Groups.of(images_Q)
    sums = groups.sums(np.concatenate([scores_MSQ, scores_MSQ]))
    found = bootstrap(sums[1:] - sums[:1], groups.sizes)
    assert (found.mean[0], found.low[0], found.high[0], found.p[0]) == (0.0, 0.0, 0.0, 1.0)


def test_only_equal_scores_give_an_interval_without_width() -> None:
    """Two seeds of coin flips: their totals are often equal, and then so little is left that 0 looks certain."""
    rng, equal_totals = np.random.default_rng(0), 0
    groups = Groups.of(np.arange(60))
    for _ in range(300):
        flips_SQ = (rng.random((2, 2, 60)) < 0.5).astype(float)
        sums = groups.sums(flips_SQ)
        both = np.stack([sums[0], sums[1] - sums[0]])
        found = bootstrap(both, groups.sizes, rounds=200)
        equal_totals += int((np.ptp(both.sum(-1), axis=-1) == 0).sum())
        # A mean of 120 flips has a standard deviation of 4.6 points, so these are wide of any accident.
        assert (found.high - found.low > 0.01).all()
    assert equal_totals > 20
    opposite = np.tile([[[1.0, 0.0], [0.0, 1.0]]], 30)  # every image scores a half, by one seed or by the other
    found = bootstrap(opposite, np.ones(60))
    assert found.high[0] - found.low[0] > 0.1 and found.p[0] < 0.01


def test_pairing_finds_what_two_intervals_hide() -> None:
    rng = np.random.default_rng(5)
    shared_Q = rng.random(400)
    scores_MSQ = np.stack([shared_Q, shared_Q + 0.03 + 0.05 * rng.normal(size=400)])[:, None]
    groups = Groups.of(np.arange(400))
    sums = groups.sums(scores_MSQ)
    apart = bootstrap(sums, groups.sizes)
    paired = bootstrap(sums[1:] - sums[:1], groups.sizes)
    assert apart.high[0] > apart.low[1] and paired.low[0] > 0 and paired.p[0] < 0.01


def test_images_without_questions_of_a_kind_are_left_out() -> None:
    scores_MSQ, images_Q = scores()
    groups, some = Groups.of(images_Q), images_Q < 200
    counts = np.bincount(groups.place, some.astype(float), len(groups.sizes))
    whole = bootstrap(groups.sums(np.where(some, scores_MSQ, 0.0)), counts)
    part = Groups.of(images_Q[some])
    np.testing.assert_array_equal(whole.low, bootstrap(part.sums(scores_MSQ[..., some]), part.sizes).low)
    with pytest.raises(ValueError, match="no questions"):
        bootstrap(np.zeros((1, 1, 3)), np.zeros(3))


def test_chunks_of_rounds_and_equal_seeds_change_nothing() -> None:
    scores_MSQ, images_Q = scores()
    groups = Groups.of(images_Q)
    sums = groups.sums(scores_MSQ)
    both = bootstrap(sums, groups.sizes, rounds=130, seed=4)
    np.testing.assert_array_equal(both.low, bootstrap(sums, groups.sizes, rounds=130, seed=4).low)
    assert (both.low != bootstrap(sums, groups.sizes, rounds=130, seed=5).low).all()


def test_holm_by_hand() -> None:
    # Smallest times 3, next times 2, largest times 1, never falling.
    np.testing.assert_allclose(holm(np.array([0.03, 0.01, 0.04])), [0.06, 0.03, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.6])), [1.0, 1.0])
    assert holm(np.array([])).shape == (0,)


def test_agreement_by_a_plain_loop() -> None:
    answers_MSQ = np.random.default_rng(0).integers(0, 3, (3, 2, 50))
    same = agreement(answers_MSQ)
    for a in range(3):
        for b in range(3):
            pairs = [(0, 1)] if a == b else [(0, 0), (1, 1)]
            plain = [
                sum(x == y for x, y in zip(answers_MSQ[a, s].tolist(), answers_MSQ[b, t].tolist(), strict=True)) / 50
                for s, t in pairs
            ]
            assert same[a, b] == pytest.approx(np.mean(plain))
    assert np.isnan(agreement(answers_MSQ[:, :1])).diagonal().all()
