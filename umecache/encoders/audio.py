"""Sound encoders of transformers: wav2vec 2.0, HuBERT, WavLM, and Whisper's encoder.

    umecache extract --model wav2vec2                          # from the hub, or its cache
    umecache extract --model whisper --weights ../my-whisper   # a local folder: config.json, weights
    umecache extract --model hubert --weights random           # the architecture at its real size, no files at all

Hidden states are those of the base model, one token for 20 ms, 30 s of a sound at most unless `--max-length` says more.
Only the tokens of the sound itself are kept, and neither padding nor company in a batch changes them:
`umecache.encoders.audio_networks` says how.

Cost: wav2vec2-base, 10 s: about 70 GFLOP, 499 tokens, 0.77 MB stored as float16. Whisper always computes 30 s.
Shapes: B batch, N samples, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from umecache.encoders.audio_networks import ConvFrames, MelFrames
from umecache.encoders.base import EncoderOptions, Json, LoadContext
from umecache.encoders.hearing import SoundEncoder
from umecache.encoders.models import ModelEntry
from umecache.encoders.states import HiddenStates
from umecache.encoders.transformers_models import Source, config_sha256, configure, create, find_source, read_extras
from umecache.encoders.weights import weights_sha256
from umecache.errors import UsageError

RATE = 16_000  # samples a second, of all four
UNUSED = ("masked_spec_embed",)  # stands for masked frames in training, never read in eval mode
PREPROCESSOR = "preprocessor_config.json"


class TransformersAudio(HiddenStates, SoundEncoder):
    """A frozen base model of transformers behind the preprocessing that it was trained with."""

    module: ConvFrames | MelFrames

    def __init__(
        self,
        name: str,
        module: ConvFrames | MelFrames,
        *,
        rate: int,
        normalise: bool,
        max_length: int | None,
        layers: str,
    ) -> None:
        """Wrap a loaded network; `build_audio` fills in recipe and origin.

        Raises:
            UsageError: a layer or a length that the network does not have.
        """
        self.name, self.module, self.rate, self.normalise = name, module, rate, normalise
        self.max_length = self.limit(max_length, module.most)
        self.read(layers)
        self.recipe, self.origin = {}, {}
        self._check_length()

    def tokens(self, samples: int) -> int:
        """Tokens T that N samples give."""
        return self.module.tokens(samples)

    def samples(self, tokens: int) -> int:
        """The most samples N that give T tokens."""
        return self.module.samples(tokens)

    def smallest(self) -> dict[str, Tensor]:
        """As much silence as gives two tokens."""
        count = self.samples(2)
        return {"waves": torch.zeros(1, count), "samples": torch.tensor([count])}

    def forward(self, batch: Mapping[str, Tensor], *, all_states: bool) -> Any:
        """The network's output."""
        return self.module(batch["waves"], batch["samples"], all_states)

    def _check_length(self) -> None:
        """Planned lengths must be real ones: adapters, say, would make fewer tokens."""
        with torch.inference_mode():
            found = self.encode(self.smallest()).shape[1]
        if found != (self.module.most or 2):
            raise UsageError(
                f"{self.name} gives {found} tokens where its convolutions give {self.module.most or 2}.",
                why="Networks with an adapter behind their encoder are not taken.",
                next="umecache models",
            )


def build_audio(entry: ModelEntry, options: EncoderOptions, context: LoadContext) -> TransformersAudio:
    """The encoder of a registry entry or a local folder.

    Raises:
        UsageError: the model is no encoder of sounds, or an option does not fit it.
        DataError: files that are missing, damaged, or don't fit together.
    """
    source = find_source(entry, options)
    config = configure(entry.name, source.config, options.model_args)
    config_hash = config_sha256(config, audio=True)  # now: some classes write into the configuration they are made from
    network, attention = create(entry.name, config, source, options, modality="audio", may_miss=UNUSED)
    extras = read_extras(source, PREPROCESSOR)
    mel = config.model_type == "whisper"
    rate = _whole(extras, "sampling_rate", RATE)
    module = (
        MelFrames(network, rate=rate, hop=_whole(extras, "hop_length", 160), window=_whole(extras, "n_fft", 400))
        if mel
        else ConvFrames(network)
    )
    encoder = TransformersAudio(
        entry.name,
        module.eval(),
        rate=rate,
        normalise=bool(extras.get("do_normalize", not mel)),
        max_length=options.max_length,
        layers=options.layers,
    )
    encoder.recipe = {
        "weights_sha256": weights_sha256(network, skip=UNUSED),
        "config_sha256": config_hash,
        "layers": encoder.layers,
        **encoder.facts(),
        **module.facts(),
    }
    encoder.origin = _origin(entry, source, options, attention, type(network).__name__)
    return encoder


def _whole(extras: Mapping[str, Any], key: str, default: int) -> int:
    value = extras.get(key, default)
    if type(value) is not int or not 1 <= value <= 192_000:
        raise UsageError(f"{PREPROCESSOR} says {key} {value!r}; a whole number is expected.", next="umecache models")
    return value


def _origin(
    entry: ModelEntry, source: Source, options: EncoderOptions, attention: str, architecture: str
) -> dict[str, Json]:
    import transformers

    return {
        "library": "transformers",
        "library_version": transformers.__version__,
        "architecture": architecture,
        "attention": attention,
        "repo": None if source.commit is None else entry.repo,
        "revision": source.commit,
        "weights": "random" if source.weights is None else str(source.weights),
        "seed": options.seed if source.weights is None else None,
        "licence": entry.licence,
        "citation": entry.citation,
    }
