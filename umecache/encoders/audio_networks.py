"""Networks that hear, fed so that a sound's tokens depend on nothing but the sound.

`ConvFrames` (wav2vec 2.0, HuBERT, WavLM): strided convolutions over the samples, then a transformer. Padded frames are
masked in the transformer. That is not enough for the networks whose first convolution ends in a group norm (all base
sizes): its mean and variance run over time, padding included, which is why their authors feed them unmasked, one length
at a time. Here the norm takes each record over its own frames, so a padded record comes out as it does alone.

`MelFrames` (Whisper): a log-mel spectrogram of exactly 30 s, the rest silence, then a transformer that attends to all
of it, as it was trained; the tokens of the sound are kept, those of the silence are not. It is computed on the device,
where the transform costs nothing and does not hold up the CPU.

Sources: Baevski et al., NeurIPS 2020, arXiv:2006.11477, section 2; Radford et al., ICML 2023, arXiv:2212.04356, 2.2.
Shapes: B batch, N samples, T tokens, C channels, M mel bands, F frequencies, D width.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from umecache.encoders.base import Json


class OwnFramesNorm(nn.Module):
    """A group norm over each record's own frames; shares the weights of the one it stands for.

    Attributes:
        frames: how many frames of each record are real, set before each batch; None: all.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias
        self.frames: list[int] | None = None

    def forward(self, x_BCT: Tensor) -> Tensor:
        """[B, C, T]; frames that are not real stay what they are."""
        if self.frames is None or set(self.frames) == {x_BCT.shape[2]}:
            return F.group_norm(x_BCT, self.groups, self.weight, self.bias, self.eps)
        rows = []
        for x_CT, real in zip(x_BCT, self.frames, strict=True):
            own_1CT = F.group_norm(x_CT[None, :, :real], self.groups, self.weight, self.bias, self.eps)
            rows.append(F.pad(own_1CT, (0, x_BCT.shape[2] - real)))
        return torch.cat(rows)


class ConvFrames(nn.Module):
    """A network of transformers that reads samples, each record padded on the right."""

    most: int | None = None  # tokens; positions are relative

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        config = network.config
        self.cuts = tuple(zip(config.conv_kernel, config.conv_stride, strict=True))
        first = self.network.feature_extractor.conv_layers[0]
        self.norm: OwnFramesNorm | None = None
        if isinstance(getattr(first, "layer_norm", None), nn.GroupNorm):
            first.layer_norm = self.norm = OwnFramesNorm(first.layer_norm)

    def tokens(self, samples: int) -> int:
        """Tokens T that N samples give: each convolution leaves (n - kernel) // stride + 1."""
        for kernel, stride in self.cuts:
            samples = max((samples - kernel) // stride + 1, 0)
        return samples

    def samples(self, tokens: int) -> int:
        """The most samples N that give T tokens."""
        for kernel, stride in reversed(self.cuts):
            tokens = (tokens - 1) * stride + kernel + stride - 1
        return tokens

    def facts(self) -> dict[str, Json]:
        """Nothing beyond the configuration."""
        return {}

    def forward(self, waves_BN: Tensor, samples_B: Tensor, all_states: bool) -> Any:
        """The network's output."""
        mask_BN = torch.arange(waves_BN.shape[1], device=waves_BN.device) < samples_B[:, None]
        if self.norm is not None:
            kernel, stride = self.cuts[0]
            self.norm.frames = ((samples_B - kernel) // stride + 1).tolist()
        with warnings.catch_warnings():
            # WavLM's code gives torch a mask of booleans beside a bias of floats; torch takes both, and complains.
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask", UserWarning)
            return self.network(
                waves_BN, attention_mask=mask_BN.long(), output_hidden_states=all_states, return_dict=True
            )


class MelFrames(nn.Module):
    """Whisper's encoder behind its spectrogram."""

    window: Tensor
    bands: Tensor  # [M, F]

    def __init__(self, network: Any, *, rate: int, hop: int, window: int) -> None:
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        self.network = network
        config = network.config
        self.hop, self.rate = hop, rate
        self.stride: int = network.conv1.stride[0] * network.conv2.stride[0]  # spectrogram frames of one token
        self.most: int = config.max_source_positions
        bands_FM = mel_filter_bank(
            num_frequency_bins=window // 2 + 1,
            num_mel_filters=config.num_mel_bins,
            min_frequency=0.0,
            max_frequency=rate / 2,
            sampling_rate=rate,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("bands", torch.from_numpy(bands_FM.T.copy()).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(window), persistent=False)

    def tokens(self, samples: int) -> int:
        """Tokens T that N samples reach into."""
        return min(-(-samples // (self.hop * self.stride)), self.most)

    def samples(self, tokens: int) -> int:
        """The most samples N that give T tokens."""
        return tokens * self.hop * self.stride

    def facts(self) -> dict[str, Json]:
        """The spectrogram's."""
        return {"spectrogram": "log-mel, Whisper's", "hop": self.hop, "window": len(self.window), "heard": self.most}

    def forward(self, waves_BN: Tensor, samples_B: Tensor, all_states: bool) -> Any:
        """The network's output, [B, `most`, D]."""
        return self.network(self.spectrogram(waves_BN), output_hidden_states=all_states, return_dict=True)

    def spectrogram(self, waves_BN: Tensor) -> Tensor:
        """Log-mel spectrogram [B, M, frames]: eight decades under the loudest, then (x + 4) / 4."""
        whole = self.samples(self.most)
        with torch.autocast(waves_BN.device.type, enabled=False):  # powers of 1e-10 matter here
            padded_BN = F.pad(waves_BN.float(), (0, whole - waves_BN.shape[1]))
            spectrum = torch.stft(padded_BN, len(self.window), self.hop, window=self.window, return_complex=True)
            power_BFT = spectrum[..., :-1].abs().square()
            log_BMT = (self.bands @ power_BFT).clamp(min=1e-10).log10()
            return (log_BMT.clamp(min=log_BMT.amax((1, 2), keepdim=True) - 8) + 4) / 4
