"""A head's random numbers are its own."""

from __future__ import annotations

import torch

from umecache.training.randomness import RandomState

CPU = torch.device("cpu")


def test_random_states_go_on_where_they_stopped() -> None:
    one, other = RandomState(0, CPU), RandomState(0, CPU)
    with one.active():
        together = torch.rand(4)
    with other.active():
        first = torch.rand(2)
    torch.rand(100)
    with other.active():
        second = torch.rand(2)
    assert torch.equal(torch.cat([first, second]), together)


def test_a_state_can_be_taken_and_put_back() -> None:
    one, other = RandomState(0, CPU), RandomState(1, CPU)
    with one.active():
        torch.rand(3)
    other.load({name: state.clone() for name, state in one.tensors().items()})
    drawn = []
    for state in (one, other):
        with state.active():
            drawn.append(torch.rand(5))
    assert torch.equal(*drawn)
