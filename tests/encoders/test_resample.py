"""Resampling: scipy's filter to float32 accuracy, tones kept, no delay, pieces that fit the whole."""

from __future__ import annotations

from math import gcd

import numpy as np
import pytest
from scipy.signal import resample_poly

from tests.encoders.sounds import tone
from umecache.encoders.resample import resample, resampled_length, samples_needed

RATES = [(44_100, 16_000), (48_000, 16_000), (8_000, 16_000), (22_050, 16_000), (11_025, 16_000), (16_001, 16_000)]


@pytest.mark.parametrize(("rate", "to"), RATES)
def test_equals_scipy(rate: int, to: int) -> None:
    noise = np.random.default_rng(0).normal(size=rate // 5 + 3).astype(np.float32)
    ours = resample(noise, rate, to)
    theirs = resample_poly(noise.astype(np.float64), to // gcd(rate, to), rate // gcd(rate, to))
    assert ours.dtype == np.float32
    assert len(ours) == len(theirs) == resampled_length(len(noise), rate, to)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("rate", "to"), RATES)
def test_the_beginning_needs_no_more_than_it_says(rate: int, to: int) -> None:
    noise = np.random.default_rng(1).normal(size=rate // 5).astype(np.float32)
    part = resample(noise[: samples_needed(700, rate, to)], rate, to)[:700]
    np.testing.assert_array_equal(part, resample(noise, rate, to)[:700])


def test_a_tone_stays_a_tone() -> None:
    high, low = tone(0.5, 300, rate=48_000), tone(0.5, 300, rate=16_000)
    middle = slice(800, -800)
    difference = resample(high, 48_000, 16_000)[middle] - low[middle]
    assert float(np.sqrt(np.mean(difference**2))) < 0.04  # both have noise of 0.02


@pytest.mark.parametrize("samples", [1, 2, 3, 100])
def test_short_sounds(samples: int) -> None:
    wave = np.ones(samples, np.float32)
    for rate, to in [*RATES, (16_000, 16_000)]:
        assert len(resample(wave, rate, to)) == resampled_length(samples, rate, to) >= 1
    np.testing.assert_array_equal(resample(wave, 16_000, 16_000), wave)


def test_blocks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    import umecache.encoders.resample as module

    noise = np.random.default_rng(2).normal(size=5_000).astype(np.float32)
    whole = resample(noise, 44_100, 16_000)
    monkeypatch.setattr(module, "_BLOCK", 97)
    np.testing.assert_array_equal(resample(noise, 44_100, 16_000), whole)
