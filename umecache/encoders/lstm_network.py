"""The network of `lstm` and the two files it is kept in.

    x_t = tanh(E w_t)    h1_t = LSTM(x_t, h1_{t-1})    h2_t = LSTM(h1_t, h2_{t-1})

    files = pack(network, {"words": ["what", "is", ...]})    # weights.safetensors, vocab.json
    state, facts = unpack(files)

Source: "deeper LSTM Q" of Antol et al., ICCV 2015, arXiv:1505.00468: 300-d embeddings, two layers of 512.
Shapes: B batch, T tokens, E width of embeddings, D width of a layer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from umecache.encoders.base import Json
from umecache.errors import DataError

WEIGHTS, VOCAB = "weights.safetensors", "vocab.json"
MAX_LENGTH = 128  # words; VQA's longest question has 26


class QuestionLSTM(nn.Module):
    """LSTM layers over tanh word embeddings.

    Args:
        vocab_size: rows of the embedding table.
        embedding_dim: E.
        dim: D of each layer.
        layers: how many.
    """

    def __init__(self, vocab_size: int, embedding_dim: int = 300, dim: int = 512, layers: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        widths = [embedding_dim, *[dim] * layers]
        # One module per layer: nn.LSTM with several gives the hidden states of the top one only.
        self.layers = nn.ModuleList(nn.LSTM(width, dim, batch_first=True) for width in widths[:-1])

    def forward(self, ids_BT: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Hidden states of each layer, and the last cell states of each.

        Returns:
            [B, T, E] of the embeddings, then [B, T, D] of each layer; [B, D] of each layer.
        """
        states = [torch.tanh(self.embedding(ids_BT))]
        cells = []
        for layer in self.layers:
            hidden_BTD, (_, cell_1BD) = layer(states[-1])
            states.append(hidden_BTD)
            cells.append(cell_1BD[0])
        return states, cells


def pack(module: QuestionLSTM, facts: Mapping[str, Json]) -> dict[str, bytes]:
    """The two files of a network and its words (`facts`: `words` or `hashed_words`, and how it was trained)."""
    from safetensors.torch import save

    weights: bytes = save({key: tensor.detach().contiguous() for key, tensor in module.state_dict().items()})
    return {WEIGHTS: weights, VOCAB: (json.dumps({"format": 1, **facts}, ensure_ascii=False) + "\n").encode()}


def unpack(files: Mapping[str, bytes]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights, and the facts of vocab.json.

    Raises:
        DataError: a file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    absent = [name for name in (WEIGHTS, VOCAB) if name not in files]
    if absent:
        raise DataError(f"An lstm needs {' and '.join(absent)}.", next="umecache extract --model lstm")
    try:
        state = load(files[WEIGHTS])
        facts = json.loads(files[VOCAB])
        known = facts["format"] == 1 and ("hashed_words" in facts or all(isinstance(w, str) for w in facts["words"]))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{WEIGHTS} or {VOCAB} is damaged: {error}.", next="umecache extract --model lstm") from None
    if not known:
        raise DataError(f"{VOCAB} is of a newer format.", next="pip install --upgrade umecache")
    return state, facts
