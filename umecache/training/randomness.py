"""The random numbers of one head, kept apart from everybody else's.

state = RandomState(seed, device)
with state.active():
    torch.rand(3)          # the head's numbers; what others draw in between doesn't change them
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


class RandomState:
    """The state of torch's random generators that belongs to one head.

    Dropout draws from torch's global generators. A head puts its own state in while it runs and takes it out after, so
    that what others draw doesn't change what it draws.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        outer = self._get()
        torch.manual_seed(seed)
        self._own = self._get()
        self._set(outer)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Inside, torch draws this head's numbers."""
        outer = self._get()
        self._set(self._own)
        try:
            yield
        finally:
            self._own = self._get()
            self._set(outer)

    def tensors(self) -> dict[str, Tensor]:
        """The state as bytes, for a checkpoint."""
        on_cpu, of_device = self._own
        return {"cpu": on_cpu} if of_device is None else {"cpu": on_cpu, "device": of_device}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where `tensors` were taken."""
        self._own = (tensors["cpu"], tensors.get("device"))

    def _get(self) -> tuple[Tensor, Tensor | None]:
        kind = self._device.type
        of_device = None
        if kind == "cuda":
            of_device = torch.cuda.get_rng_state(self._device)
        elif kind == "mps":
            of_device = torch.mps.get_rng_state()
        return torch.get_rng_state(), of_device

    def _set(self, state: tuple[Tensor, Tensor | None]) -> None:
        torch.set_rng_state(state[0])
        if state[1] is None:
            return
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state[1], self._device)
        else:
            torch.mps.set_rng_state(state[1])
