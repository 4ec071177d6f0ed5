"""`lstm-q-norm-i` against its equation."""

from __future__ import annotations

import pytest
import torch

from tests.fusion.contract import make_batch
from umecache.errors import UsageError
from umecache.fusion.lstm_q_norm_i import LSTMQNormI, last_token

DIMS = {"image": 7, "text": 5}
LENGTHS = [{"text": 3, "image": 4}, {"text": 2, "image": 1}]


@pytest.mark.parametrize("text_state", ["last", "mean"])
def test_is_the_equation(text_state: str) -> None:
    fusion = LSTMQNormI(DIMS, width=6, text_state=text_state, input_norm="none").eval()
    batch = make_batch(DIMS, LENGTHS)
    image_map, text_map = fusion.project.maps
    for b, lengths in enumerate(LENGTHS):
        words, patches = batch["text"][0][b, : lengths["text"]], batch["image"][0][b, : lengths["image"]]
        q = words[-1] if text_state == "last" else words.mean(0)
        v = patches.mean(0)
        v = v / (v * v).sum().sqrt()
        expected = torch.tanh(text_map.weight @ q + text_map.bias) * torch.tanh(image_map.weight @ v + image_map.bias)
        torch.testing.assert_close(fusion(batch)[b], expected, rtol=1e-5, atol=1e-6)


def test_the_length_of_the_image_vector_does_not_matter() -> None:
    fusion, batch = LSTMQNormI(DIMS, width=6, input_norm="none").eval(), make_batch(DIMS, LENGTHS)
    tokens, mask = batch["image"]
    torch.testing.assert_close(fusion({**batch, "image": (9 * tokens, mask)}), fusion(batch))


def test_last_token() -> None:
    x = torch.arange(6.0).view(1, 3, 2)
    for mask, found in (([1, 1, 0], [2, 3]), ([0, 0, 1], [4, 5]), ([1, 0, 1], [4, 5]), ([0, 0, 0], [0, 0])):
        assert last_token(x, torch.tensor([mask]).bool()).tolist() == [found]


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="text_state"):
        LSTMQNormI(DIMS, text_state="first")
