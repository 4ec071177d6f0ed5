"""What every encoder must do: one suite that text, image and sound encoders inherit.

    class TestMine(ImageEncoderContract):          # or TextEncoderContract, SoundEncoderContract
        items = (png_bytes(64, 48), png_bytes(33, 70), jpeg_bytes(200, 100))

        def load(self, folder, *, seed=0, layers="last"):
            write_checkpoint(folder, seed)           # weights drawn by `seed`; `folder` is empty and differs per call
            return load_encoder(str(folder), EncoderOptions(layers=layers))

        def reference(self, encoder, item):
            return plain_forward(item)                # [T, D] by the library itself, none of our code

Shapes: B batch, T tokens, D width.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.encoders.sounds import tone, wav
from umecache.encoders.audiofile import sound_size
from umecache.encoders.base import Encoder
from umecache.encoders.hearing import SoundEncoder
from umecache.errors import UmecacheError, UnreadableInput

TOLERANCE = 2e-5  # of the largest hidden state: float32 sums in another order


def hidden_states(encoder: Encoder, items: Sequence[str | bytes], *, pad_to: int | None = None) -> list[Tensor]:
    """Encode `items` as one batch; each record's own tokens, [T, D]."""
    prepared = encoder.prepare_many(items)
    with torch.inference_mode():
        hidden_BTD = encoder.encode(encoder.collate(prepared, pad_to))
    return [hidden_TD[: encoder.length(p)] for p, hidden_TD in zip(prepared, hidden_BTD, strict=True)]


def assert_close(actual_TD: Tensor, expected_TD: Tensor) -> None:
    """Equal to float32 tolerance, measured against the size of the values."""
    assert actual_TD.shape == expected_TD.shape
    atol = TOLERANCE * max(1.0, float(expected_TD.abs().max()))
    torch.testing.assert_close(actual_TD, expected_TD, rtol=0, atol=atol)


class EncoderContract(ABC):
    """Inherit, say `items`, `load` and `reference`."""

    items: ClassVar[Sequence[str | bytes]]
    """At least three inputs of different sizes."""
    other_layer: ClassVar[str | None] = "-2"
    """A second value of `layers` that must give other hidden states; None where an encoder has only one."""

    @abstractmethod
    def load(self, folder: Path, *, seed: int = 0, layers: str = "last") -> Encoder:
        """The encoder with weights drawn by `seed`, from files in the empty `folder` if it needs any."""

    @abstractmethod
    def reference(self, encoder: Encoder, item: str | bytes) -> Tensor:
        """Hidden states [T, D] of one item by the model's own library, unpadded."""

    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
        """Seed 0, shared by the tests of one class."""
        return cls().load(tmp_path_factory.mktemp("first"))

    @pytest.fixture(scope="class")
    @classmethod
    def twin(cls, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
        """The same weights from another place."""
        return cls().load(tmp_path_factory.mktemp("second"))

    # Facts

    def test_declares_itself(self, encoder: Encoder) -> None:
        assert encoder.name
        assert encoder.modality in ("text", "image", "audio")
        assert encoder.dim > 0
        assert all(isinstance(v, bytes) for v in encoder.files.values())

    def test_recipe_is_plain_json(self, encoder: Encoder) -> None:
        assert json.loads(json.dumps(encoder.recipe, allow_nan=False)) == encoder.recipe
        weights = encoder.recipe["weights_sha256"]
        assert isinstance(weights, str)
        assert len(weights) == 64
        assert encoder.recipe["layers"] == "last"

    def test_origin_is_plain_json(self, encoder: Encoder) -> None:
        assert json.loads(json.dumps(encoder.origin, allow_nan=False)) == encoder.origin
        assert {"library", "library_version", "licence"} <= set(encoder.origin)

    def test_recipe_knows_no_names_and_places(self, encoder: Encoder, twin: Encoder) -> None:
        assert twin.recipe == encoder.recipe

    def test_recipe_follows_the_weights(self, encoder: Encoder, tmp_path: Path) -> None:
        changed = self.load(tmp_path, seed=1)
        differing = {key for key, value in changed.recipe.items() if encoder.recipe.get(key) != value}
        assert differing == {"weights_sha256"}

    def test_loading_leaves_the_random_state_alone(self, tmp_path: Path) -> None:
        before = torch.get_rng_state()
        self.load(tmp_path)
        assert torch.equal(torch.get_rng_state(), before)

    # Hidden states

    def test_shapes(self, encoder: Encoder) -> None:
        for item in self.items:
            prepared = encoder.prepare(item)
            (hidden_TD,) = hidden_states(encoder, [item])
            assert hidden_TD.shape == (encoder.length(prepared), encoder.dim)
            assert hidden_TD.dtype == torch.float32
            assert torch.isfinite(hidden_TD).all()

    def test_items_differ(self, encoder: Encoder) -> None:
        first, second, *_ = hidden_states(encoder, self.items)
        rows = min(len(first), len(second))
        assert not torch.allclose(first[:rows], second[:rows], atol=1e-3)

    def test_equals_the_library(self, encoder: Encoder) -> None:
        for item, actual_TD in zip(self.items, hidden_states(encoder, self.items), strict=True):
            with torch.inference_mode():
                assert_close(actual_TD, self.reference(encoder, item))

    def test_same_bits_twice(self, encoder: Encoder, twin: Encoder) -> None:
        first = hidden_states(encoder, self.items)
        for again in (hidden_states(encoder, self.items), hidden_states(twin, self.items)):
            assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))

    def test_company_does_not_matter(self, encoder: Encoder) -> None:
        together = hidden_states(encoder, self.items)
        backwards = hidden_states(encoder, self.items[::-1])[::-1]
        for item, a, b in zip(self.items, together, backwards, strict=True):
            (alone,) = hidden_states(encoder, [item])
            assert_close(a, alone)
            assert_close(b, alone)

    def test_layers(self, encoder: Encoder, tmp_path: Path) -> None:
        if self.other_layer is None:
            with pytest.raises(UmecacheError):
                self.load(tmp_path, layers="-2")
            return
        other = self.load(tmp_path, layers=self.other_layer)
        assert other.recipe["layers"] == self.other_layer
        (a,), (b,) = hidden_states(encoder, self.items[:1]), hidden_states(other, self.items[:1])
        assert b.shape[1] == other.dim
        assert a.shape != b.shape or not torch.allclose(a, b, atol=1e-3)

    @pytest.mark.parametrize("layers", ["first", "-1000", "1.5", ""])
    def test_absurd_layers_are_refused(self, tmp_path: Path, layers: str) -> None:
        with pytest.raises(UmecacheError) as error:
            self.load(tmp_path, layers=layers)
        assert error.value.exit_status == 2

    def test_views_are_what_would_be_loaded(self, encoder: Encoder, tmp_path: Path) -> None:
        assert encoder.layer_names()[0] == "last"
        assert encoder.at("last").recipe == encoder.recipe
        if self.other_layer is None:
            with pytest.raises(UmecacheError):
                encoder.at("-2")
            return
        assert self.other_layer in encoder.layer_names()
        view, loaded = encoder.at(self.other_layer), self.load(tmp_path, layers=self.other_layer)
        assert (view.recipe, view.dim, view.grid, view.fixed_length) == (
            loaded.recipe,
            loaded.dim,
            loaded.grid,
            loaded.fixed_length,
        )
        assert next(view.module.parameters()) is next(encoder.module.parameters()), "weights are shared"

    def test_layers_in_one_pass_have_the_bits_of_each_alone(self, encoder: Encoder) -> None:
        names = encoder.layer_names()
        views = [encoder.at(name) for name in dict.fromkeys((names[0], names[len(names) // 2], names[-1]))]
        batch = encoder.collate(encoder.prepare_many(self.items))
        for _ in range(2):  # what the first pass learns, the second uses
            with torch.inference_mode():
                together = encoder.encode_layers(batch, views)
                for view, hidden_BTD in zip(views, together, strict=True):
                    assert torch.equal(hidden_BTD, view.encode(batch))
                    assert hidden_BTD.shape[2] == view.dim
        for wrong in ("-1000", "first"):
            with pytest.raises(UmecacheError):
                encoder.at(wrong)

    # The network

    def test_frozen(self, encoder: Encoder) -> None:
        assert not any(module.training for module in encoder.module.modules())
        assert not any(parameter.requires_grad for parameter in encoder.module.parameters())
        hidden = encoder.encode(encoder.collate(encoder.prepare_many(self.items[:1])))
        assert not hidden.requires_grad

    def test_moves(self, encoder: Encoder) -> None:
        assert encoder.to("cpu") is encoder
        assert encoder.to(torch.device("cpu")) is encoder

    # The CPU half

    def test_prepare_many_is_prepare(self, encoder: Encoder) -> None:
        for one, many in zip(map(encoder.prepare, self.items), encoder.prepare_many(self.items), strict=True):
            assert one.dtype == many.dtype
            np.testing.assert_array_equal(one, many)
        assert encoder.prepare_many([]) == []

    def test_prepare_from_threads(self, encoder: Encoder) -> None:
        items = [*self.items] * 8
        with ThreadPoolExecutor(4) as pool:
            threaded = list(pool.map(encoder.prepare, items))
            threaded_many = list(pool.map(encoder.prepare_many, [items] * 4))
        for expected, actual in zip(encoder.prepare_many(items), threaded, strict=True):
            np.testing.assert_array_equal(actual, expected)
        for answer in threaded_many:
            for expected, actual in zip(threaded, answer, strict=True):
                np.testing.assert_array_equal(actual, expected)

    def test_collate(self, encoder: Encoder) -> None:
        batch = encoder.collate(encoder.prepare_many(self.items))
        for tensor in batch.values():
            assert tensor.device.type == "cpu"
            assert len(tensor) == len(self.items)


class TextEncoderContract(EncoderContract):
    """For encoders of questions."""

    items: ClassVar[Sequence[str | bytes]] = (
        "what color is the cat?",
        "how many dogs are there on the left of the red car, and is it raining?",
        "yes",
        "Is the man's hat blue?",
    )

    def test_grid(self, encoder: Encoder) -> None:
        assert encoder.modality == "text"
        assert encoder.grid is None
        assert encoder.fixed_length is None

    def test_ids(self, encoder: Encoder) -> None:
        prepared = encoder.prepare(self.items[0])
        assert prepared.dtype == np.int64
        assert prepared.ndim == 1

    def test_bytes_are_utf8(self, encoder: Encoder) -> None:
        np.testing.assert_array_equal(encoder.prepare(b"what color?"), encoder.prepare("what color?"))

    @pytest.mark.parametrize("item", [b"\xff\xfe\x00", "\ud800"])
    def test_undecodable_text_is_unreadable(self, encoder: Encoder, item: str | bytes) -> None:
        with pytest.raises(UnreadableInput):
            encoder.prepare(item)

    @pytest.mark.parametrize("item", ["", "   ", "\n", "\u00e9\u4e2d\U0001f600", "a\x00b"])
    def test_any_text_has_a_token(self, encoder: Encoder, item: str) -> None:
        prepared = encoder.prepare(item)
        assert encoder.length(prepared) >= 1
        (hidden_TD,) = hidden_states(encoder, [item])
        assert torch.isfinite(hidden_TD).all()
        assert len(hidden_TD) == encoder.length(prepared)

    def test_padding_does_not_matter(self, encoder: Encoder) -> None:
        longest = max(encoder.length(p) for p in encoder.prepare_many(self.items))
        padded = hidden_states(encoder, self.items, pad_to=longest + 7)
        for item, actual_TD in zip(self.items, padded, strict=True):
            (alone_TD,) = hidden_states(encoder, [item])
            assert_close(actual_TD, alone_TD)

    def test_collate_pads_on_the_right(self, encoder: Encoder) -> None:
        prepared = encoder.prepare_many(self.items)
        longest = max(map(encoder.length, prepared))
        assert all(t.shape[1] == longest for t in encoder.collate(prepared).values())
        batch = encoder.collate(prepared, pad_to=longest + 3)
        assert all(t.shape[1] == longest + 3 for t in batch.values())
        for row, ids in zip(batch["input_ids"], prepared, strict=True):
            np.testing.assert_array_equal(row[: len(ids)], ids)

    def test_long_text_is_cut(self, encoder: Encoder) -> None:
        limit: Any = encoder.recipe["max_length"]
        if limit is None:
            return
        prepared = encoder.prepare("cat dog " * limit)
        assert encoder.length(prepared) == limit
        (hidden_TD,) = hidden_states(encoder, ["cat dog " * limit])
        assert hidden_TD.shape == (limit, encoder.dim)


class ImageEncoderContract(EncoderContract):
    """For encoders of images; `items` are bytes of PNG or JPEG files."""

    def test_grid(self, encoder: Encoder) -> None:
        assert encoder.modality == "image"
        assert encoder.grid is not None
        assert encoder.fixed_length == encoder.grid.tokens

    def test_pixels(self, encoder: Encoder) -> None:
        prepared = encoder.prepare(self.items[0])
        assert prepared.dtype in (np.uint8, np.float32)  # uint8 pixels are normalised by `encode`
        assert prepared.ndim == 3
        assert prepared.shape[0] == 3

    @pytest.mark.parametrize("item", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
    def test_non_images_are_unreadable(self, encoder: Encoder, item: bytes) -> None:
        with pytest.raises(UnreadableInput):
            encoder.prepare(item)

    def test_cut_images_are_unreadable(self, encoder: Encoder) -> None:
        whole = self.items[0]
        assert isinstance(whole, bytes)
        with pytest.raises(UnreadableInput):
            encoder.prepare(whole[: len(whole) // 2])

    def test_preprocessing_is_in_the_recipe(self, encoder: Encoder) -> None:
        assert {"image_size", "crop", "interpolation", "antialias", "mean", "std"} <= set(encoder.recipe)


class SoundEncoderContract(EncoderContract):
    """For encoders of sounds; `items` are bytes of WAV files."""

    items: ClassVar[Sequence[str | bytes]] = (
        wav(tone(0.6, 330)),
        wav(tone(0.31, 880, rate=44_100, seed=1), rate=44_100),
        wav(tone(0.45, 200, rate=8_000, seed=2), rate=8_000),
        wav(np.stack([tone(0.2), tone(0.2, 660, seed=3)], axis=1), bits=24),
    )

    def test_grid(self, encoder: Encoder) -> None:
        assert encoder.modality == "audio"
        assert encoder.grid is None
        assert encoder.fixed_length is None

    def test_samples(self, encoder: Encoder) -> None:
        assert isinstance(encoder, SoundEncoder)
        for item in self.items:
            prepared = encoder.prepare(item)
            assert prepared.dtype == np.float32
            assert prepared.ndim == 1

    def test_lengths_are_known_from_the_header(self, encoder: Encoder) -> None:
        assert isinstance(encoder, SoundEncoder)
        for item in self.items:
            assert isinstance(item, bytes)
            assert encoder.measure(sound_size(item)) == encoder.length(encoder.prepare(item)) >= 1

    def test_samples_are_the_most_that_give_so_many_tokens(self, encoder: Encoder) -> None:
        assert isinstance(encoder, SoundEncoder)
        for count in (1, 2, 7):
            assert encoder.tokens(encoder.samples(count)) == count
            assert encoder.tokens(encoder.samples(count) + 1) == count + 1

    def test_padding_does_not_matter(self, encoder: Encoder) -> None:
        longest = max(encoder.length(p) for p in encoder.prepare_many(self.items))
        padded = hidden_states(encoder, self.items, pad_to=longest + 7)
        for item, actual_TD in zip(self.items, padded, strict=True):
            (alone_TD,) = hidden_states(encoder, [item])
            assert_close(actual_TD, alone_TD)

    def test_collate_pads_on_the_right(self, encoder: Encoder) -> None:
        prepared = encoder.prepare_many(self.items)
        batch = encoder.collate(prepared, pad_to=max(map(encoder.length, prepared)) + 1)
        assert batch["samples"].tolist() == [len(wave_N) for wave_N in prepared]
        for row, wave_N in zip(batch["waves"], prepared, strict=True):
            np.testing.assert_array_equal(row[: len(wave_N)], wave_N)
            assert not row[len(wave_N) :].any()
        with pytest.raises(ValueError, match="pad_to=1"):
            encoder.collate(prepared, pad_to=1)

    def test_silence_is_a_sound(self, encoder: Encoder) -> None:
        (hidden_TD,) = hidden_states(encoder, [wav(np.zeros(4000, np.float32))])
        assert torch.isfinite(hidden_TD).all()

    def test_long_sounds_are_cut(self, encoder: Encoder) -> None:
        assert isinstance(encoder, SoundEncoder)
        limit = encoder.max_length
        seconds = encoder.samples(limit) / encoder.rate
        long = wav(tone(seconds + 0.5, rate=8_000), rate=8_000)
        assert encoder.recipe["max_length"] == limit == encoder.measure(sound_size(long))
        prepared = encoder.prepare(long)
        assert encoder.length(prepared) == limit
        assert len(prepared) == encoder.samples(limit)

    @pytest.mark.parametrize("item", [b"", b"not a sound", b"RIFF", wav(tone(0.2))[:-7], wav(tone(0.2)[:0])])
    def test_non_sounds_are_unreadable(self, encoder: Encoder, item: bytes) -> None:
        with pytest.raises(UnreadableInput):
            encoder.prepare(item)

    def test_text_is_no_sound(self, encoder: Encoder) -> None:
        with pytest.raises(TypeError):
            encoder.prepare("RIFF")

    def test_preprocessing_is_in_the_recipe(self, encoder: Encoder) -> None:
        assert {"sampling_rate", "resampling", "channels", "normalise", "max_length"} <= set(encoder.recipe)
