"""The built-in sample's encoder of sounds, `sample-audio`: a log-mel spectrogram, and no weights at all.

    encoder = load_encoder("sample-audio")      # 8 tokens x 64 for 0.8 s: one for each tenth of a second

A token is the energy in 64 bands of its tenth of a second, in decades: log10(power + 1e-6), shifted and scaled to about
-1..1. So it says what is heard, and leaves to the fusion what that means.

Shapes: B batch, N samples, T tokens, D bands (64), F frequencies.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from umecache.data.sounds import RATE
from umecache.encoders.base import EncoderOptions, LoadContext
from umecache.encoders.hearing import SoundEncoder
from umecache.encoders.models import ModelEntry
from umecache.encoders.weights import freeze, weights_sha256
from umecache.errors import UsageError

BANDS = 64
FRAME = RATE // 10  # samples of a token
LOWEST = 60.0  # Hz
FLOOR, CENTRE, SCALE = 1e-6, 3.0, 3.0  # of log10 power: silence is -1, full scale about 1


class Bands(nn.Module):
    """Samples [B, N] to the energy in bands [B, T, D]; what is left over after the last whole frame is not heard."""

    bands: Tensor  # [F, D]
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bands", torch.from_numpy(mel_bands(FRAME, RATE, BANDS)))
        self.register_buffer("window", torch.hann_window(FRAME))

    def forward(self, waves_BN: Tensor) -> Tensor:
        """Hidden states [B, T, D]."""
        T = waves_BN.shape[1] // FRAME
        frames_BTF = waves_BN[:, : T * FRAME].reshape(-1, T, FRAME) * self.window
        power_BTF = torch.fft.rfft(frames_BTF.float()).abs().square() / FRAME
        energy_BTD = torch.log10(power_BTF @ self.bands + FLOOR)
        return (energy_BTD + CENTRE) / SCALE


class SampleAudio(SoundEncoder):
    """`sample-audio`."""

    rate, normalise, dim = RATE, False, BANDS

    def __init__(self, entry: ModelEntry, max_length: int | None) -> None:
        self.name, self.module = entry.name, freeze(Bands())
        self.max_length = self.limit(max_length)
        self.recipe = {"weights_sha256": weights_sha256(self.module), "layers": "last", **self.facts()}
        self.origin = {
            "library": "torch",
            "library_version": torch.__version__,
            "licence": entry.licence,
            "citation": entry.citation,
            "architecture": "Bands",
        }

    def tokens(self, samples: int) -> int:
        """Tokens T that N samples give: whole frames."""
        return samples // FRAME

    def samples(self, tokens: int) -> int:
        """The most samples N that give T tokens."""
        return tokens * FRAME + FRAME - 1

    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Hidden states [B, T, D]."""
        hidden_BTD: Tensor = self.module(batch["waves"])
        return hidden_BTD


def build_audio(entry: ModelEntry, options: EncoderOptions, context: LoadContext) -> SampleAudio:
    """The registry's builder of `sample-audio`.

    Raises:
        UsageError: options that it doesn't have.
    """
    if options.layers not in ("last", "-1"):
        raise UsageError(f"{entry.name} can't be read at layer {options.layers!r}.", next="--layers last")
    if options.model_args or options.weights not in (None, "random"):
        raise UsageError(
            f"{entry.name} has no weights and no --model-arg.", next=f"umecache extract --model {entry.name}"
        )
    return SampleAudio(entry, options.max_length)


def mel_bands(frame: int, rate: int, bands: int) -> NDArray[np.float32]:
    """Triangles [F, D], evenly spaced on the mel scale 2595 log10(1 + Hz / 700); each sums to 1."""
    mel = np.linspace(_mel(LOWEST), _mel(rate / 2), bands + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    hertz_F1 = np.fft.rfftfreq(frame, 1 / rate)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    # At least as wide as the spectrum's own step, or the lowest bands would hear nothing.
    step = rate / frame
    rise = (hertz_F1 - np.minimum(low, middle - step)) / np.maximum(middle - low, step)
    fall = (np.maximum(high, middle + step) - hertz_F1) / np.maximum(high - middle, step)
    triangles_FD = np.maximum(0, np.minimum(rise, fall))
    bands_FD: NDArray[np.float32] = (triangles_FD / triangles_FD.sum(axis=0)).astype(np.float32)
    return bands_FD


def _mel(hertz: float) -> float:
    return 2595 * float(np.log10(1 + hertz / 700))
