"""Sound files to samples as an encoder wants them: what every encoder of sounds shares.

    encoder.prepare(data)             # float32 [N]: one channel, the encoder's rate, cut at its limit
    encoder.measure(size)             # tokens that a file of that size will give, from its header alone

Lengths are planned before anything is decoded, so a subclass says exactly how many tokens N samples give (`tokens`),
and how many samples T tokens may need (`samples`).

Shapes: B batch, N samples (padded with silence on the right), T tokens, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from umecache.encoders.audiofile import SoundSize, read_sound, sound_size
from umecache.encoders.base import Encoder, Json, Prepared
from umecache.encoders.resample import RECIPE, resample, resampled_length, samples_needed
from umecache.errors import UnreadableInput, UsageError

SECONDS = 30  # of a sound are heard unless more are asked for: attention costs the square of the length


class SoundEncoder(Encoder):
    """The CPU half of an encoder of sounds; subclasses say `tokens`, `samples` and `encode`.

    Attributes:
        rate: samples a second that the network wants.
        max_length: tokens; of a longer sound the beginning is heard.
        normalise: bring each sound to mean 0 and variance 1, as the network was trained.
    """

    modality = "audio"
    rate: int
    max_length: int
    normalise: bool

    @abstractmethod
    def tokens(self, samples: int) -> int:
        """Tokens T that N samples give; 0 where they are too few."""

    @abstractmethod
    def samples(self, tokens: int) -> int:
        """The most samples N that give T tokens."""

    def limit(self, asked: int | None, most: int | None = None) -> int:
        """`max_length`: as asked, else of 30 seconds; never more than the network's own limit `most`.

        Raises:
            UsageError: more is asked than the network has positions for.
        """
        if most is not None and asked is not None and asked > most:
            raise UsageError(
                f"{self.name} has positions for {most} tokens, not {asked}.", next=f"--max-length {most} or less"
            )
        usual = max(self.tokens(SECONDS * self.rate), 1)
        return asked if asked is not None else min(usual, most or usual)

    def measure(self, size: SoundSize) -> int:
        """Tokens that a sound of that size gives.

        Raises:
            UnreadableInput: it is too short to give one.
        """
        return self._count(resampled_length(size.samples, size.rate, self.rate))

    def prepare(self, item: str | bytes) -> Prepared:
        """Samples [N] float32 of a sound file's bytes."""
        if isinstance(item, str):
            raise TypeError("an encoder of sounds reads the bytes of a sound file")
        size = sound_size(item)
        wanted = self.samples(self.max_length)
        wave_N = read_sound(item, first=samples_needed(wanted, size.rate, self.rate))
        wave_N = resample(wave_N, size.rate, self.rate)[:wanted]
        self._count(len(wave_N))
        if self.normalise:
            wide_N = wave_N.astype(np.float64)
            wave_N = ((wide_N - wide_N.mean()) / np.sqrt(wide_N.var() + 1e-7)).astype(np.float32)
        return np.ascontiguousarray(wave_N)

    def length(self, prepared: Prepared) -> int:
        """Tokens T that `prepared` will give."""
        return self._count(len(prepared))

    def collate(self, prepared: Sequence[Prepared], pad_to: int | None = None) -> dict[str, Tensor]:
        """`waves` [B, N] float32, padded on the right with zeros, and `samples` [B] int64: how many are real.

        Raises:
            ValueError: `pad_to` is shorter than a sound.
        """
        longest = max(map(len, prepared), default=0)
        width = longest if pad_to is None else self.samples(pad_to)
        if width < longest:
            raise ValueError(f"pad_to={pad_to}, but a sound has {self.tokens(longest)} tokens")
        waves_BN = torch.zeros(len(prepared), width)
        for row, wave_N in enumerate(prepared):
            waves_BN[row, : len(wave_N)] = torch.from_numpy(wave_N)
        return {"waves": waves_BN, "samples": torch.tensor([len(wave_N) for wave_N in prepared], dtype=torch.int64)}

    def facts(self) -> dict[str, Json]:
        """The part of a recipe that decides samples."""
        return {
            "sampling_rate": self.rate,
            "resampling": RECIPE,
            "channels": "mean",
            "normalise": self.normalise,
            "max_length": self.max_length,
            "truncation": "right",
        }

    def _count(self, samples: int) -> int:
        count = min(self.tokens(samples), self.max_length)
        if count < 1:
            raise UnreadableInput(f"a sound too short for one token ({1000 * samples / self.rate:.3g} ms)")
        return count
