"""To the device and back; on a GPU where there is one."""

from __future__ import annotations

import pytest
import torch

from umecache.extraction.transfer import Transfer, out_of_memory

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))]


@pytest.mark.parametrize("device", DEVICES)
def test_there_and_back(device: str) -> None:
    transfer = Transfer(torch.device(device))
    batch = transfer.pin({"x": torch.arange(12).view(3, 4)})
    x = transfer.to_device(batch)["x"]
    assert x.device.type == device
    part = transfer.to_host([x.float()[..., None] * -1, x.float()[..., None]], torch.float16)
    part.wait()
    for sign, values, peaks in zip((-1, 1), part.values, part.peaks, strict=True):
        assert values.dtype == torch.float16
        assert values.device.type == "cpu"
        assert torch.equal(values[..., 0].long(), sign * batch["x"])
        assert torch.equal(peaks, batch["x"].float())


def test_peaks_tell_what_the_cast_hides() -> None:
    hidden_BTD = torch.tensor([[[70000.0, 1.0], [float("nan"), 0.0], [-3.0, 2.0], [float("-inf"), 0.0]]])
    part = Transfer(torch.device("cpu")).to_host([hidden_BTD], torch.float16)
    (values_BTD,), (peak_BT,) = part.values, part.peaks
    assert values_BTD[0, 0, 0] == float("inf")
    assert peak_BT[0, 0] == 70000
    assert peak_BT[0, 1].isnan()
    assert peak_BT[0, 2:].tolist() == [3.0, float("inf")]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."), True),
        (MemoryError(), True),
        (RuntimeError("The size of tensor a (3) must match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_mean_too_large(error: BaseException, expected: bool) -> None:
    assert out_of_memory(error) is expected
