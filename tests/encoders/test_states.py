"""Choosing a hidden state; the conformance suites of texts and sounds try it on every architecture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.encoders.checkpoints import write_checkpoint
from umecache.encoders.base import EncoderOptions
from umecache.encoders.registry import load_encoder
from umecache.encoders.states import HiddenStates
from umecache.errors import UsageError


@pytest.fixture(params=["bert", "wav2vec2"])
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> HiddenStates:
    found = load_encoder(str(write_checkpoint(tmp_path, request.param)))
    assert isinstance(found, HiddenStates)
    return found


def test_the_last_state_has_one_name(encoder: HiddenStates) -> None:
    assert encoder.layer_names() == ("last", "-2", "-3")
    assert encoder.at("-1").recipe == encoder.recipe
    with pytest.raises(UsageError, match="It has 3: -1 is the last, -3 the embeddings"):
        encoder.at("-4")


def test_a_norm_behind_the_last_layer_makes_two_of_it(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "wav2vec2", feat_extract_norm="layer", do_stable_layer_norm=True)
    encoder = load_encoder(str(tmp_path), EncoderOptions(layers="-1"))
    assert encoder.recipe["layers"] == "-1"
    assert encoder.layer_names() == ("last", "-1", "-2", "-3")


def test_views_leave_the_encoder_alone(encoder: HiddenStates) -> None:
    view = encoder.at("-2")
    assert (encoder.layers, view.layers) == ("last", "-2")
    batch = encoder.smallest()
    with torch.inference_mode():
        last, below = encoder.encode_layers(batch, [encoder, view])
        assert torch.equal(last, encoder.encode(batch)) and torch.equal(below, view.encode(batch))
