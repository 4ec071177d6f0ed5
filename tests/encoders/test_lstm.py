"""`lstm` through the conformance suite, trained on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.encoders.contract import TextEncoderContract, assert_close, hidden_states
from umecache.encoders.base import Encoder, EncoderOptions, LoadContext, TrainText
from umecache.encoders.lstm import load_lstm
from umecache.encoders.lstm_network import VOCAB, WEIGHTS
from umecache.encoders.registry import load_encoder
from umecache.errors import DataError, UsageError

QUESTIONS = [
    f"{start} the {thing} {end}?"
    for start in ("what color is", "how many dogs are on", "is it", "Where is")
    for thing in ("cat", "car", "man's hat", "table")
    for end in ("", "on the left")
]
TEXT = TrainText(questions=QUESTIONS, answers=[("red", "2", "yes", "there")[i // 8] for i in range(len(QUESTIONS))])
ARGS = {"dim": 24, "embedding_dim": 16, "epochs": 3, "min_count": 1}


def load(folder: Path | None, *, text: TrainText | None = TEXT, **options: object) -> Encoder:
    context = LoadContext(cache_dir=folder, train_text=text)
    return load_encoder("lstm", EncoderOptions(**{"model_args": ARGS, **options}), context)  # type: ignore[arg-type]


class TestLstm(TextEncoderContract):
    def load(self, folder: Path, *, seed: int = 0, layers: str = "last") -> Encoder:
        return load(folder, seed=seed, layers=layers)

    def reference(self, encoder: Encoder, item: str | bytes) -> Tensor:
        """torch's own two-layer LSTM with the same weights."""
        state = encoder.module.state_dict()
        stacked = nn.LSTM(16, 24, num_layers=2, batch_first=True)
        stacked.load_state_dict(
            {
                name.removeprefix(f"layers.{layer}.").replace("_l0", f"_l{layer}"): tensor
                for layer in range(2)
                for name, tensor in state.items()
                if name.startswith(f"layers.{layer}.")
            }
        )
        ids = torch.from_numpy(encoder.prepare(item))
        hidden_TD: Tensor = stacked(torch.tanh(state["embedding.weight"][ids])[None])[0][0]
        return hidden_TD


class TestRandomLstm(TextEncoderContract):
    """`--weights random`: no training questions, hashed words."""

    def load(self, folder: Path, *, seed: int = 0, layers: str = "last") -> Encoder:
        return load(None, text=None, weights="random", seed=seed, layers=layers)

    def reference(self, encoder: Encoder, item: str | bytes) -> Tensor:
        again = load_lstm(encoder.files)
        return hidden_states(again, [item])[0]


@pytest.fixture(scope="module")
def lstm(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load(tmp_path_factory.mktemp("lstm"))


def test_files_are_enough(lstm: Encoder) -> None:
    again = load_lstm(dict(lstm.files))
    assert again.recipe == lstm.recipe
    assert again.origin == lstm.origin
    assert again.files == lstm.files
    for a, b in zip(hidden_states(again, QUESTIONS), hidden_states(lstm, QUESTIONS), strict=True):
        assert torch.equal(a, b)


def test_random_files_are_enough() -> None:
    random = load(None, text=None, weights="random")
    again = load_lstm(random.files)
    assert again.recipe == random.recipe
    assert torch.equal(hidden_states(again, ["cat"])[0], hidden_states(random, ["cat"])[0])


def test_from_a_folder(lstm: Encoder, tmp_path: Path) -> None:
    for name, data in lstm.files.items():
        (tmp_path / name).write_bytes(data)
    for ref, weights in (("lstm", str(tmp_path)), ("lstm", str(tmp_path / WEIGHTS)), (str(tmp_path), None)):
        assert load_encoder(ref, EncoderOptions(weights=weights)).recipe == lstm.recipe


def test_a_token_sees_only_those_before_it(lstm: Encoder) -> None:
    whole, start = hidden_states(lstm, ["what color is the cat", "what color"])
    assert_close(whole[:2], start)


def test_training_facts_are_reported(lstm: Encoder) -> None:
    training = lstm.origin["training"]
    assert isinstance(training, dict)
    assert training["questions"] == len(QUESTIONS)
    assert training["epochs"] == 3


def test_registry_width() -> None:
    from umecache.encoders.models import MODELS

    encoder = load_encoder("lstm", EncoderOptions(weights="random"))
    assert encoder.dim == MODELS["lstm"].dim == 512
    assert encoder.module.embedding.weight.shape[1] == 300  # type: ignore[union-attr, index]


def test_the_embeddings_are_a_layer(lstm: Encoder) -> None:
    embeddings = load_lstm(lstm.files, options=EncoderOptions(layers="-3"))
    assert embeddings.dim == 16
    (states,) = hidden_states(embeddings, ["cat cat"])
    assert torch.equal(states[0], states[1])
    assert load_lstm(lstm.files, options=EncoderOptions(layers="-1")).recipe == lstm.recipe


def test_max_length(lstm: Encoder) -> None:
    cut = load_lstm(lstm.files, options=EncoderOptions(max_length=3))
    np.testing.assert_array_equal(cut.prepare(QUESTIONS[0]), lstm.prepare(QUESTIONS[0])[:3])
    assert cut.recipe["max_length"] == 3
    with pytest.raises(UsageError):
        load_lstm(lstm.files, options=EncoderOptions(max_length=0))


def test_questions_may_come_late(tmp_path: Path, lstm: Encoder) -> None:
    """Extraction gives a function, so that other encoders don't read the train split for nothing."""
    context = LoadContext(cache_dir=tmp_path, train_text=lambda: TEXT)
    assert load_encoder("lstm", EncoderOptions(model_args=ARGS), context).recipe == lstm.recipe


# What is refused


def test_no_questions() -> None:
    with pytest.raises(UsageError, match="trained on a data set's train questions") as error:
        load_encoder("lstm")
    assert "--data" in error.value.next


def test_absent_files(tmp_path: Path, lstm: Encoder) -> None:
    with pytest.raises(DataError, match="There is no"):
        load_encoder("lstm", EncoderOptions(weights=str(tmp_path)))
    (tmp_path / WEIGHTS).write_bytes(lstm.files[WEIGHTS])
    with pytest.raises(DataError, match=VOCAB):
        load_encoder("lstm", EncoderOptions(weights=str(tmp_path)))


def test_files_that_do_not_belong_together(lstm: Encoder) -> None:
    other = load(None, text=TrainText(questions=QUESTIONS[:8], answers=["a"] * 8))
    with pytest.raises(DataError, match="rows for"):
        load_lstm({WEIGHTS: lstm.files[WEIGHTS], VOCAB: other.files[VOCAB]})


def test_weights_of_something_else(lstm: Encoder) -> None:
    from safetensors.torch import save

    for state in (
        {"weight": torch.ones(2, 2)},
        {"embedding.weight": torch.ones(2)},
        {"embedding.weight": torch.ones(2, 2)},
    ):
        with pytest.raises(DataError, match="no LSTM of ours"):
            load_lstm({WEIGHTS: save(state), VOCAB: lstm.files[VOCAB]})


@pytest.mark.parametrize("layers", ["-4", "0", "2", "top"])
def test_layers_that_are_not_there(lstm: Encoder, layers: str) -> None:
    with pytest.raises(UsageError, match="names no hidden state"):
        load_lstm(lstm.files, options=EncoderOptions(layers=layers))
