"""Batches to the device and hidden states back, beside the computation where the device can.

On CUDA, inputs are pinned by the thread that made them and copied on a stream of their own, hidden states are cast on
the device and copied to pinned memory on another; the host waits for nothing until `Part.wait`. Elsewhere all of this
is nothing.

Shapes: B batch, T tokens (padded), D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Part:
    """Hidden states of some records on the CPU, layer by layer: there once `wait` has returned."""

    values: Sequence[Tensor]  # [B, T, D] of each layer
    peaks: Sequence[
        Tensor
    ]  # [B, T] float32: the largest absolute value of each token before the cast; NaN where one is
    ready: torch.cuda.Event | None = None

    def wait(self) -> None:
        """Return once the values have arrived."""
        if self.ready is not None:
            self.ready.synchronize()


class Transfer:
    """To and from one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cuda = device.type == "cuda"
        self._in = torch.cuda.Stream(device) if self.cuda else None  # type: ignore[no-untyped-call]
        self._out = torch.cuda.Stream(device) if self.cuda else None  # type: ignore[no-untyped-call]

    def pin(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch in memory that the device can fetch from by itself; called in the thread that made it."""
        return {name: tensor.pin_memory() if self.cuda else tensor for name, tensor in batch.items()}

    def to_device(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch on the device, ready for what is launched next."""
        if self._in is None:
            return {name: tensor.to(self.device) for name, tensor in batch.items()}
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._in):
            moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        current.wait_stream(self._in)
        for tensor in moved.values():
            tensor.record_stream(current)  # its memory is not given away before the encoder has read it
        return moved

    def to_host(self, layers_BTD: Sequence[Tensor], dtype: torch.dtype) -> Part:
        """Hidden states as `dtype` on the CPU, and the peaks that they had before."""
        peaks_BT = [torch.linalg.vector_norm(x_BTD, math.inf, dim=-1, dtype=torch.float32) for x_BTD in layers_BTD]
        values_BTD = [x_BTD.to(dtype) for x_BTD in layers_BTD]
        if self._out is None:
            return Part([x.cpu() for x in values_BTD], [x.cpu() for x in peaks_BT])
        self._out.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._out):
            values, peaks = ([self._fetch(x) for x in tensors] for tensors in (values_BTD, peaks_BT))
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(self._out)
        return Part(values, peaks, ready)

    def _fetch(self, tensor: Tensor) -> Tensor:
        assert self._out is not None
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        tensor.record_stream(self._out)
        return host


def out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch might do."""
    words = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "Invalid buffer size")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
