"""The sample's sounds: the same every time, none like another, in files that any reader takes."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest

from umecache.data.scenes import KINDS
from umecache.data.sounds import RATE, SECONDS, signal, wav_bytes


@pytest.mark.parametrize("kind", KINDS)
def test_signals(kind: str) -> None:
    first, again, other = (signal(kind, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.dtype == np.float32 and len(first) == round(SECONDS * RATE)
    assert np.abs(first).max() <= 1 and first.std() > 0.05
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_files_by_the_standard_library() -> None:
    course = np.float32([0, 0.5, -1, 1])
    with wave.open(io.BytesIO(wav_bytes(course, RATE)), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        values = np.frombuffer(file.readframes(9), "<i2")
    np.testing.assert_allclose(values / 32767, course, atol=1 / 32767)
