"""The sounds of the built-in sample: a signal for each kind of shape, and WAV files to keep them in.

    wave_N = signal("triangle", np.random.default_rng(0))      # a rising glide
    Path("triangle.wav").write_bytes(wav_bytes(wave_N, RATE))

No two signals of a kind are equal: pitch, loudness, onset and noise differ, as two speakers would. What tells the kinds
apart is their course: a steady tone, a buzz, a rise, a rattle.

Shapes: N samples.
"""

from __future__ import annotations

import io
import wave

import numpy as np
from numpy.typing import NDArray

from umecache.data.scenes import KINDS

RATE = 8_000  # samples a second
SECONDS = 0.8


def signal(kind: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """One signal [N] of a kind of shape, float32 within -1..1."""
    t = np.arange(round(SECONDS * RATE)) / RATE
    pitch = rng.uniform(0.95, 1.06)
    if kind == KINDS[0]:  # circle: a steady low tone
        course = np.sin(2 * np.pi * 240 * pitch * t)
    elif kind == KINDS[1]:  # square: a buzz, odd harmonics
        course = np.sum([np.sin(2 * np.pi * 420 * pitch * n * t) / n for n in (1, 3, 5, 7)], axis=0)
    elif kind == KINDS[2]:  # triangle: a glide from 900 Hz up an octave
        course = np.sin(2 * np.pi * 900 * pitch * t * (1 + t / (2 * SECONDS)))
    else:  # star: a rattle, ten bursts of noise a second
        course = rng.normal(0, 0.5, len(t)) * (np.sin(2 * np.pi * 10 * pitch * t) > 0)
    loudness, onset = rng.uniform(0.25, 0.6), rng.uniform(0, 0.2)
    heard = np.clip((t - onset) / 0.02, 0, 1) * loudness * course + rng.normal(0, 0.01, len(t))
    return heard.clip(-1, 1).astype(np.float32)


def wav_bytes(wave_N: NDArray[np.float32], rate: int) -> bytes:
    """A WAV file of one channel, 16 bits."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(np.round(wave_N * 32767).astype("<i2").tobytes())
    return out.getvalue()
