"""The sample's encoder of sounds: the conformance suite, and bands that hear what is played."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.encoders.contract import SoundEncoderContract, hidden_states
from tests.encoders.sounds import tone, wav
from umecache.data.scenes import KINDS
from umecache.data.sounds import RATE, signal, wav_bytes
from umecache.encoders.base import Encoder, EncoderOptions
from umecache.encoders.registry import load_encoder
from umecache.encoders.sample_audio import BANDS, FRAME, mel_bands
from umecache.errors import UsageError


class TestSampleAudio(SoundEncoderContract):
    other_layer: ClassVar[str | None] = None

    def load(self, folder: Path, *, seed: int = 0, layers: str = "last") -> Encoder:
        return load_encoder("sample-audio", EncoderOptions(layers=layers, seed=seed, max_length=20))

    def reference(self, encoder: Encoder, item: str | bytes) -> Tensor:
        """The same sums by NumPy."""
        wave_N = encoder.prepare(item)
        frames = wave_N[: len(wave_N) // FRAME * FRAME].reshape(-1, FRAME) * np.hanning(FRAME + 1)[:-1]
        power = np.abs(np.fft.rfft(frames)) ** 2 / FRAME
        return torch.from_numpy((np.log10(power @ mel_bands(FRAME, RATE, BANDS) + 1e-6) + 3) / 3).float()

    def test_recipe_follows_the_weights(self, encoder: Encoder, tmp_path: Path) -> None:
        assert self.load(tmp_path, seed=1).recipe == encoder.recipe, "there are none"


def test_bands_cover_all_frequencies_evenly() -> None:
    bands_FD = mel_bands(FRAME, RATE, BANDS)
    np.testing.assert_allclose(bands_FD.sum(axis=0), 1, rtol=1e-5)
    hertz = np.fft.rfftfreq(FRAME, 1 / RATE)
    centres = hertz @ bands_FD
    assert (np.diff(centres) > 0).all() and centres[0] < 100 and centres[-1] > 3_700


@pytest.mark.parametrize("hertz", [200.0, 1_000.0, 3_000.0])
def test_a_tone_is_heard_in_its_band(hertz: float) -> None:
    t = np.arange(RATE) / RATE
    (hidden_TD,) = hidden_states(load_encoder("sample-audio"), [wav_bytes(np.sin(2 * np.pi * hertz * t) / 2, RATE)])
    centres = np.fft.rfftfreq(FRAME, 1 / RATE) @ mel_bands(FRAME, RATE, BANDS)
    loudest = centres[int(hidden_TD.mean(0).argmax())]
    assert abs(loudest - hertz) < 0.1 * hertz
    assert float(hidden_TD.min()) > -1.01 and float(hidden_TD.max()) < 1.5


def test_the_sample_s_sounds_can_be_told_apart() -> None:
    """By their mean energy alone: nearest of the kinds' averages."""
    encoder, rng = load_encoder("sample-audio"), np.random.default_rng(0)
    files = {kind: [wav_bytes(signal(kind, rng), RATE) for _ in range(12)] for kind in KINDS}
    means = {kind: torch.stack([h.mean(0) for h in hidden_states(encoder, files[kind])]) for kind in KINDS}
    centres = torch.stack([means[kind][:6].mean(0) for kind in KINDS])
    for place, kind in enumerate(KINDS):
        assert (torch.cdist(means[kind][6:], centres).argmin(1) == place).all()


@pytest.mark.parametrize(
    "options",
    [EncoderOptions(weights="x.safetensors"), EncoderOptions(model_args={"dim": 3}), EncoderOptions(layers="-2")],
)
def test_what_it_does_not_have(options: EncoderOptions) -> None:
    with pytest.raises(UsageError):
        load_encoder("sample-audio", options)


def test_other_rates_come_in(tmp_path: Path) -> None:
    (hidden_TD,) = hidden_states(load_encoder("sample-audio"), [wav(tone(0.55, rate=44_100), rate=44_100)])
    assert hidden_TD.shape == (5, BANDS)
