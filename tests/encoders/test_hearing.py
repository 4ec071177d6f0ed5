"""From a sound file to samples: rate, cut, normalising; with an encoder of one line."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from torch import Tensor

from tests.encoders.sounds import FLOAT, tone, wav
from umecache.encoders.audiofile import SoundSize
from umecache.encoders.hearing import SoundEncoder
from umecache.errors import UnreadableInput, UsageError


class Blocks(SoundEncoder):
    """A token for each whole block of 100 samples."""

    name, rate, max_length, normalise, dim = "blocks", 1_000, 20, False, 100

    def tokens(self, samples: int) -> int:
        return samples // 100

    def samples(self, tokens: int) -> int:
        return 100 * tokens + 99

    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        waves_BN = batch["waves"]
        return waves_BN[:, : waves_BN.shape[1] // 100 * 100].unflatten(1, (-1, 100))


def test_samples_are_resampled_and_cut() -> None:
    encoder, wave = Blocks(), tone(4, 50, rate=8_000)
    prepared = encoder.prepare(wav(wave, rate=8_000, code=FLOAT, bits=32))
    assert len(prepared) == 2_099 and encoder.length(prepared) == 20 == encoder.measure(SoundSize(32_000, 8_000))
    short = encoder.prepare(wav(wave[:8_000], rate=8_000, code=FLOAT, bits=32))
    np.testing.assert_allclose(short[:900], prepared[:900], atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "rate", "tokens"), [(100, 1_000, 1), (199, 1_000, 1), (793, 8_000, 1), (10**9, 8_000, 20)]
)
def test_lengths_follow_from_sizes(samples: int, rate: int, tokens: int) -> None:
    assert Blocks().measure(SoundSize(samples, rate)) == tokens


def test_too_short() -> None:
    with pytest.raises(UnreadableInput, match=r"too short for one token \(99 ms\)"):
        Blocks().measure(SoundSize(99, 1_000))


def test_normalising_takes_level_and_offset_away() -> None:
    encoder = Blocks()
    encoder.normalise = True
    wave = tone(0.5, rate=1_000)
    loud, quiet = (encoder.prepare(wav(w, rate=1_000, code=FLOAT, bits=32)) for w in (wave, 0.1 * wave + 0.2))
    np.testing.assert_allclose(loud, quiet, atol=5e-3)
    assert loud.dtype == np.float32


def test_limits() -> None:
    encoder = Blocks()
    assert encoder.limit(None) == 300, "thirty seconds"
    assert encoder.limit(None, most=7) == 7
    assert encoder.limit(5, most=7) == 5
    with pytest.raises(UsageError, match="positions for 7 tokens, not 8"):
        encoder.limit(8, most=7)


def test_a_record_alone_is_padded_as_planned() -> None:
    encoder = Blocks()
    prepared = encoder.prepare(wav(tone(0.25, rate=1_000), rate=1_000))
    assert encoder.collate([prepared])["waves"].shape == (1, 250)
    assert encoder.collate([prepared], pad_to=3)["waves"].shape == (1, 399)
