"""Every sound architecture through the conformance suite, from checkpoints as their authors' files lie on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.encoders.checkpoints import write_checkpoint, write_weights
from tests.encoders.contract import SoundEncoderContract, assert_close, hidden_states
from tests.encoders.sounds import tone, wav
from umecache.encoders.audiofile import read_sound, sound_size
from umecache.encoders.base import Encoder, EncoderOptions
from umecache.encoders.hearing import SoundEncoder
from umecache.encoders.models import AUDIO, MODELS
from umecache.encoders.registry import load_encoder
from umecache.encoders.resample import resample
from umecache.encoders.weights import load_state
from umecache.errors import DataError, UnreadableInput, UsageError


def by_transformers(encoder: Encoder, item: str | bytes) -> Tensor:
    """What a user of transformers alone would write: [T, D] of one sound, unpadded."""
    from transformers import AutoFeatureExtractor, AutoModel

    assert isinstance(encoder, SoundEncoder) and isinstance(item, bytes)
    folder = encoder.origin["weights"]
    model = AutoModel.from_pretrained(folder).eval()
    wave = resample(read_sound(item), sound_size(item).rate, 16_000)
    inputs = AutoFeatureExtractor.from_pretrained(folder)(wave, sampling_rate=16_000, return_tensors="pt")
    if "input_features" in inputs:
        whole: Tensor = model.get_encoder()(**inputs).last_hidden_state[0]
        return whole[: -(-len(wave) // 320)]  # 10 ms frames, two of them a token; the rest is silence
    hidden_TD: Tensor = model(inputs["input_values"]).last_hidden_state[0]
    return hidden_TD


class CheckpointContract(SoundEncoderContract):
    kind: ClassVar[str]
    form: ClassVar[str] = "safetensors"
    config: ClassVar[dict[str, Any]] = {}

    def load(self, folder: Path, *, seed: int = 0, layers: str = "last") -> Encoder:
        write_checkpoint(folder, self.kind, seed=seed, form=self.form, **self.config)
        # A short limit, so that the tests of it are quick; more than any item has.
        return load_encoder(str(folder), EncoderOptions(layers=layers, max_length=50))

    def reference(self, encoder: Encoder, item: str | bytes) -> Tensor:
        return by_transformers(encoder, item)


class TestWav2vec2(CheckpointContract):
    """Base size: a group norm over time, which padding would change."""

    kind = "wav2vec2"


class TestWav2vec2Large(CheckpointContract):
    """Large size: layer norms, and one after the last layer; weights as `.bin`."""

    kind = "wav2vec2"
    form = "bin"
    config: ClassVar = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


class TestHubert(CheckpointContract):
    kind = "hubert"
    form = "bin"


class TestHubertLarge(CheckpointContract):
    kind = "hubert"
    config: ClassVar = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


class TestWavlm(CheckpointContract):
    kind = "wavlm"


class TestWavlmLarge(CheckpointContract):
    kind = "wavlm"
    form = "sharded-bin"
    config: ClassVar = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}


class TestWhisper(CheckpointContract):
    kind = "whisper"

    def test_has_no_decoder(self, encoder: Encoder) -> None:
        assert not [name for name in encoder.module.state_dict() if "decoder" in name]

    def test_tokens_of_silence_are_not_kept(self, encoder: Encoder) -> None:
        prepared = encoder.prepare(wav(tone(0.2)))
        hidden_BTD = encoder.encode(encoder.collate([prepared]))
        assert (encoder.length(prepared), hidden_BTD.shape[1]) == (10, 50)

    def test_no_more_tokens_than_positions(self, tmp_path: Path) -> None:
        write_checkpoint(tmp_path, "whisper")
        assert load_encoder(str(tmp_path)).recipe["max_length"] == 50
        with pytest.raises(UsageError, match="positions for 50 tokens"):
            load_encoder(str(tmp_path), EncoderOptions(max_length=51))

    def test_a_sound_of_one_sample(self, encoder: Encoder) -> None:
        assert encoder.length(encoder.prepare(wav(tone(1)[:1]))) == 1


# Files


def test_names_of_older_checkpoints(tmp_path: Path) -> None:
    """The published weights of the positional convolution have the names of torch before 2.1."""
    write_checkpoint(tmp_path / "new", "wav2vec2")
    state = load_state(tmp_path / "new")
    renamed = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for key, value in state.items()
    }
    assert renamed.keys() != state.keys()
    write_checkpoint(tmp_path / "old", "wav2vec2", seed=1)
    write_weights(tmp_path / "old", renamed, "safetensors")
    assert load_encoder(str(tmp_path / "old")).recipe == load_encoder(str(tmp_path / "new")).recipe


def test_a_sound_too_short_for_a_token_is_unreadable(tmp_path: Path) -> None:
    encoder = load_encoder(str(write_checkpoint(tmp_path, "wav2vec2")))
    assert isinstance(encoder, SoundEncoder)
    short = wav(tone(1)[: encoder.samples(0)])
    for attempt in (lambda: encoder.prepare(short), lambda: encoder.measure(sound_size(short))):
        with pytest.raises(UnreadableInput, match="too short"):
            attempt()


def test_normalising_follows_the_checkpoint(tmp_path: Path) -> None:
    encoder = load_encoder(str(write_checkpoint(tmp_path, "wavlm")))
    assert encoder.recipe["normalise"] is False
    np.testing.assert_array_equal(encoder.prepare(wav(tone(0.2))), read_sound(wav(tone(0.2))))
    (tmp_path / "preprocessor_config.json").unlink()
    again = load_encoder(str(tmp_path)).prepare(wav(tone(0.2)))
    assert abs(float(again.mean())) < 1e-5 and abs(float(again.std()) - 1) < 1e-4


@pytest.mark.parametrize("text", ["{", json.dumps({"sampling_rate": "16k"})])
def test_a_malformed_preprocessor_is_refused(tmp_path: Path, text: str) -> None:
    write_checkpoint(tmp_path, "hubert")
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises((DataError, UsageError), match="preprocessor_config"):
        load_encoder(str(tmp_path))


def test_adapters_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "wav2vec2", add_adapter=True)
    with pytest.raises(UsageError, match="adapter"):
        load_encoder(str(tmp_path))


def test_models_that_hear_nothing_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "bert")
    with pytest.raises(UsageError, match=r"'bert' model; 'wav2vec2' is 'wav2vec2'"):
        load_encoder("wav2vec2", EncoderOptions(weights=str(tmp_path)))


def test_what_only_training_reads_is_not_in_the_recipe(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", "wav2vec2")
    write_checkpoint(tmp_path / "b", "wav2vec2", mask_time_prob=0.0, layerdrop=0.3, ctc_loss_reduction="mean")
    state = {k: v for k, v in load_state(tmp_path / "a").items() if "masked_spec_embed" not in k}
    write_weights(tmp_path / "b", state, "safetensors")
    assert load_encoder(str(tmp_path / "a")).recipe == load_encoder(str(tmp_path / "b")).recipe


# At real size


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.builder == AUDIO])
def test_registry_entries_at_real_width(name: str) -> None:
    """Width and convolutions as published, two layers of the twelve; the registry's word on tokens."""
    layers = {"encoder_layers": 2, "decoder_layers": 1} if name == "whisper" else {"num_hidden_layers": 2}
    encoder = load_encoder(name, EncoderOptions(weights="random", model_args=layers))
    assert isinstance(encoder, SoundEncoder)
    assert encoder.dim == MODELS[name].dim == 768
    assert encoder.recipe["max_length"] == (1500 if name == "whisper" else 1499)
    assert encoder.tokens(10 * 16_000) == (500 if name == "whisper" else 499)
    if name != "whisper":  # 30 s of attention take a while
        (hidden_TD,) = hidden_states(encoder, [wav(tone(0.25))])
        assert hidden_TD.shape == (12, 768)


def test_reduced_precision_stays_near(tmp_path: Path) -> None:
    """The spectrogram and the norm over time are not rounded, whatever the network runs in."""
    for kind in ("whisper", "wav2vec2"):
        encoder = load_encoder(str(write_checkpoint(tmp_path / kind, kind)), EncoderOptions(max_length=50))
        batch = encoder.collate(encoder.prepare_many([wav(tone(0.3)), wav(tone(0.2))]))
        with torch.inference_mode():
            exact = encoder.encode(batch)
            with torch.autocast("cpu", torch.bfloat16):
                near = encoder.encode(batch).float()
        assert float((near - exact)[:, :10].abs().max()) < 0.15 * float(exact.abs().max())


def test_one_pass_for_layers_of_a_padded_batch(tmp_path: Path) -> None:
    encoder = load_encoder(str(write_checkpoint(tmp_path, "wav2vec2")))
    items = [wav(tone(0.4)), wav(tone(0.2, 300))]
    view = encoder.at("-3")
    for item, together in zip(items, hidden_states(view, items), strict=True):
        (alone,) = hidden_states(view, [item])
        assert_close(together, alone)
