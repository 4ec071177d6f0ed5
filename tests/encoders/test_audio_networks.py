"""What keeps a sound's tokens its own: the norm over its own frames, and the spectrogram."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.encoders.sounds import tone
from umecache.encoders.audio_networks import MelFrames, OwnFramesNorm


def test_the_norm_sees_each_record_alone() -> None:
    plain = nn.GroupNorm(4, 4)
    nn.init.normal_(plain.weight)
    norm = OwnFramesNorm(plain)
    x_BCT = torch.randn(3, 4, 20)
    norm.frames = [20, 7, 13]
    out_BCT = norm(x_BCT)
    for row, real in enumerate(norm.frames):
        torch.testing.assert_close(out_BCT[row : row + 1, :, :real], plain(x_BCT[row : row + 1, :, :real]))
    assert norm.state_dict().keys() == plain.state_dict().keys()


def test_the_norm_of_a_full_batch_is_the_plain_one() -> None:
    plain = nn.GroupNorm(4, 4)
    norm, x_BCT = OwnFramesNorm(plain), torch.randn(2, 4, 9)
    for frames in (None, [9, 9]):
        norm.frames = frames
        assert torch.equal(norm(x_BCT), plain(x_BCT))


class Convolutions(nn.Module):
    """As much of Whisper's encoder as its spectrogram needs to know."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        from transformers import WhisperConfig

        self.config: Any = WhisperConfig(num_mel_bins=bands, max_source_positions=100)
        self.conv1, self.conv2 = nn.Conv1d(bands, 8, 3, padding=1), nn.Conv1d(8, 8, 3, stride=2, padding=1)


@pytest.mark.parametrize("bands", [80, 128])
def test_the_spectrogram_is_whisper_s(bands: int) -> None:
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=bands, chunk_length=2)
    frames = MelFrames(Convolutions(bands), rate=16_000, hop=160, window=400)
    waves = [tone(1.5), 0.01 * tone(0.3, 200), np.zeros(500, np.float32)]
    batch = torch.zeros(3, 24_000)
    for row, wave in enumerate(waves):
        batch[row, : len(wave)] = torch.from_numpy(wave)
    ours_BMT = frames.spectrogram(batch)
    theirs_BMT = extractor(waves, sampling_rate=16_000, return_tensors="pt")["input_features"]
    assert ours_BMT.shape == theirs_BMT.shape == (3, bands, 200)
    torch.testing.assert_close(ours_BMT, theirs_BMT, rtol=0, atol=1e-4)


def test_tokens_of_spectrogram_frames() -> None:
    frames = MelFrames(Convolutions(80), rate=16_000, hop=160, window=400)
    assert [frames.tokens(n) for n in (0, 1, 320, 321, 32_000, 10**6)] == [0, 1, 1, 2, 100, 100]
    assert frames.samples(100) == 32_000
