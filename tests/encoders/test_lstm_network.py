"""The network of `lstm`, and its two files."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from umecache.encoders.lstm_network import VOCAB, WEIGHTS, QuestionLSTM, pack, unpack
from umecache.errors import DataError


@pytest.fixture
def network() -> QuestionLSTM:
    torch.manual_seed(0)
    return QuestionLSTM(20, embedding_dim=6, dim=8, layers=2).eval()


def test_shapes(network: QuestionLSTM) -> None:
    states, cells = network(torch.randint(20, (3, 5)))
    assert [tuple(state.shape) for state in states] == [(3, 5, 6), (3, 5, 8), (3, 5, 8)]
    assert [tuple(cell.shape) for cell in cells] == [(3, 8), (3, 8)]


def test_equals_torch_own_two_layers(network: QuestionLSTM) -> None:
    stacked = nn.LSTM(6, 8, num_layers=2, batch_first=True)
    for layer, single in enumerate(network.layers):
        for name, parameter in single.named_parameters():
            getattr(stacked, name.replace("_l0", f"_l{layer}")).data.copy_(parameter.data)
    ids = torch.randint(20, (3, 5))
    states, cells = network(ids)
    hidden, (_, cell) = stacked(torch.tanh(network.embedding(ids)))
    torch.testing.assert_close(states[-1], hidden)
    torch.testing.assert_close(torch.stack(cells), cell)


def test_gates_by_hand() -> None:
    """One step of one unit, from the equations of an LSTM."""
    network = QuestionLSTM(2, embedding_dim=1, dim=1, layers=1)
    with torch.no_grad():
        network.embedding.weight[:] = 0.5
        for parameter in network.layers[0].parameters():
            parameter.fill_(0.3)
        states, _ = network(torch.tensor([[1, 1]]))
    x = torch.tanh(torch.tensor(0.5))
    h = c = torch.tensor(0.0)
    for step in range(2):
        z = 0.3 * x + 0.3 + 0.3 * h + 0.3
        c = torch.sigmoid(z) * c + torch.sigmoid(z) * torch.tanh(z)
        h = torch.sigmoid(z) * torch.tanh(c)
        torch.testing.assert_close(states[1][0, step, 0], h)


def test_pack_and_unpack(network: QuestionLSTM) -> None:
    files = pack(network, {"words": ["a", "é"]})
    assert set(files) == {WEIGHTS, VOCAB}
    state, facts = unpack(files)
    assert facts["words"] == ["a", "é"]
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    assert pack(network, {"words": ["a", "é"]}) == files


def test_damaged_files(network: QuestionLSTM) -> None:
    files = pack(network, {"words": ["a"]})
    for broken in (
        {WEIGHTS: files[WEIGHTS]},
        {**files, WEIGHTS: files[WEIGHTS][:-9]},
        {**files, VOCAB: b"{"},
        {**files, VOCAB: b"[]"},
        {**files, VOCAB: b'{"format": 1}'},
        {**files, VOCAB: json.dumps({"format": 1, "words": [1]}).encode()},
        {**files, VOCAB: json.dumps({"format": 2, "words": ["a"]}).encode()},
    ):
        with pytest.raises(DataError):
            unpack(broken)
