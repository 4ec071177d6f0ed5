"""The contract's own defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from umecache.encoders.base import Encoder, EncoderOptions, LoadContext, Prepared, TokenGrid, TrainText
from umecache.errors import UsageError
from umecache.reporting import Silent


class Letters(Encoder):
    """The smallest encoder there is: a letter is a token."""

    def __init__(self) -> None:
        self.name, self.modality, self.dim = "letters", "text", 2
        self.module = nn.Embedding(256, 2)
        self.recipe, self.origin = {}, {}

    def prepare(self, item: str | bytes) -> Prepared:
        return np.frombuffer(item.encode() if isinstance(item, str) else item, dtype=np.uint8).astype(np.int64)

    def collate(self, prepared: Sequence[Prepared], pad_to: int | None = None) -> dict[str, Tensor]:
        return {"ids": torch.stack([torch.from_numpy(ids) for ids in prepared])}

    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        hidden: Tensor = self.module(batch["ids"])
        return hidden


def test_defaults() -> None:
    encoder = Letters()
    prepared = encoder.prepare_many(["abc", b"def"])
    assert [encoder.length(p) for p in prepared] == [3, 3]
    assert encoder.encode(encoder.collate(prepared)).shape == (2, 3, 2)
    assert encoder.grid is None
    assert encoder.files == {}
    assert encoder.to("cpu") is encoder


def test_fixed_length_wins() -> None:
    encoder = Letters()
    encoder.fixed_length = 49
    assert encoder.length(np.zeros((3, 8, 8), np.float32)) == 49


def test_moving() -> None:
    encoder = Letters()
    assert encoder.to(torch.device("meta")).module.weight.device.type == "meta"  # type: ignore[union-attr]


def test_an_encoder_says_all_three() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Encoder()  # type: ignore[abstract]


def test_grid_tokens() -> None:
    assert TokenGrid(height=24, width=24, prefix=1).tokens == 577
    assert TokenGrid(height=7, width=7).tokens == 49
    assert TokenGrid(height=0, width=0, prefix=1).tokens == 1


@pytest.mark.parametrize(
    ("value", "field"),
    [(EncoderOptions(), "seed"), (LoadContext(), "cache_dir"), (TokenGrid(height=1, width=1), "prefix")],
)
def test_options_are_frozen(value: object, field: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, 1)


def test_context_defaults() -> None:
    context = LoadContext(train_text=TrainText(questions=["q"], answers=["a"]))
    assert context.cache_dir is None
    assert isinstance(context.reporter, Silent)


def test_an_encoder_of_one_layer_says_so() -> None:
    encoder = Letters()
    assert encoder.layer_names() == ("last",)
    assert encoder.at("last") is encoder
    with pytest.raises(UsageError, match="layer '-2'"):
        encoder.at("-2")
    batch = encoder.collate(encoder.prepare_many(["abc"]))
    (alone_BTD,) = encoder.encode_layers(batch, [encoder])
    assert torch.equal(alone_BTD, encoder.encode(batch))
