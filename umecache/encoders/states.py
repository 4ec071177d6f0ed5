"""Which hidden state of a transformers network is read: what its encoders of texts and of sounds share.

    encoder.layer_names()             # ("last", "-2", "-3", ...)
    encoder.at("-2").encode(batch)    # the same weights, read one layer below

The network itself is asked, with the smallest batch there is: how many hidden states it has, how wide they are, and
whether the last of them is what it gives.

Shapes: B batch, T tokens, D width.
"""

from __future__ import annotations

import copy
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from umecache.encoders.base import Encoder
from umecache.errors import UsageError


class HiddenStates(Encoder):
    """A network that gives an output with `last_hidden_state` and, if asked, `hidden_states`.

    Attributes:
        layers: the name of the state that `encode` gives, as in the recipe.
    """

    layers: str
    _state: int | None  # of `hidden_states`; None: `last_hidden_state`

    @abstractmethod
    def forward(self, batch: Mapping[str, Tensor], *, all_states: bool) -> Any:
        """The network's output for a collated batch, with `hidden_states` where `all_states`."""

    @abstractmethod
    def smallest(self) -> dict[str, Tensor]:
        """A batch of one record that is as short as can be, on the CPU."""

    def read(self, layers: str) -> None:
        """Choose the hidden state to read: sets `layers` and `dim`.

        Raises:
            UsageError: `layers` names none that the network has.
        """
        output = self._smallest_output()
        last, states = output.last_hidden_state, output.hidden_states
        self.layers, self._state, self.dim = "last", None, last.shape[-1]
        if layers == "last":
            return
        if not re.fullmatch(r"-\d{1,4}", layers) or not 1 <= -int(layers) <= len(states):
            raise UsageError(
                f"layers={layers!r} names no hidden state of {self.name}.",
                why=f"It has {len(states)}: -1 is the last, -{len(states)} the embeddings.",
                next="--layers last",
            )
        state = states[int(layers)]
        if int(layers) == -1 and torch.equal(state, last):
            return  # one name for one thing, so that equal stores have equal recipes
        self.layers, self._state, self.dim = layers, int(layers), state.shape[-1]

    def layer_names(self) -> tuple[str, ...]:
        """ "last", then "-2" and below; "-1" too where the last hidden state is before the final norm."""
        output = self._smallest_output()
        count = len(output.hidden_states)
        same = torch.equal(output.hidden_states[-1], output.last_hidden_state)
        return ("last", *(f"-{i}" for i in range(2 if same else 1, count + 1)))

    def at(self, layers: str) -> Self:
        """The same network read at another layer."""
        view = copy.copy(self)
        view.read(layers)
        view.recipe = {**self.recipe, "layers": view.layers}
        return view

    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Hidden states [B, T, D]."""
        output = self.forward(batch, all_states=self._state is not None)
        hidden_BTD: Tensor = output.last_hidden_state if self._state is None else output.hidden_states[self._state]
        return hidden_BTD

    def encode_layers(self, batch: Mapping[str, Tensor], views: Sequence[Encoder]) -> list[Tensor]:
        """Hidden states [B, T, D] of each view, in one pass."""
        states = [view._state for view in views if isinstance(view, HiddenStates)]
        output = self.forward(batch, all_states=any(state is not None for state in states))
        return [output.last_hidden_state if state is None else output.hidden_states[state] for state in states]

    def _smallest_output(self) -> Any:
        device = next(self.module.parameters()).device
        with torch.inference_mode():
            batch = {name: tensor.to(device) for name, tensor in self.smallest().items()}
            return self.forward(batch, all_states=True)
