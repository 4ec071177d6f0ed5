"""The measured cost of the pair stage: forms that compute what they say, followed memory, known slopes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from umecache.analysis import measured_cost
from umecache.analysis.measured_cost import FILE, Peak, dense, forms, kept, measure, pooled, read, slope, write
from umecache.errors import DataError
from umecache.fusion.simple_pair import SimplePair

N, D = 7, 6


@pytest.fixture
def leaves() -> list[Tensor]:
    made = torch.Generator().manual_seed(0)
    shapes = ((N, D), (4, D, D), (D,), ())
    return [torch.randn(shape, generator=made, dtype=torch.float64).requires_grad_() for shape in shapes]


def test_a_map_per_pair_is_the_equation_written_out(leaves: list[Tensor]) -> None:
    z, (w1, w2, w3, w4), aws, bias = leaves
    made = [(z[i], z[j]) for i in range(N) for j in range(i, N)]
    p = torch.stack([torch.tanh(w1 @ a + w2 @ b + w3 @ (a - b) + w4 @ (a * b)) for a, b in made])
    weights = torch.softmax(torch.tanh(p @ aws + bias), 0)
    torch.testing.assert_close(dense(*leaves), (weights[:, None] * p).sum(0))


def test_without_weights_it_is_the_simple_pair_method(leaves: list[Tensor]) -> None:
    fusion = SimplePair({"text": D}, width=D, input_norm="none").double()
    fusion.combine.weight.data.copy_(leaves[1].detach())
    with torch.no_grad():
        x = fusion.project({"text": (leaves[0][None], torch.ones(1, N, dtype=torch.bool))})[0][0]
        z = fusion.attend(x, torch.ones(1, N, dtype=torch.bool))
        even = torch.zeros(D, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        alone = fusion({"text": (leaves[0][None], torch.ones(1, N, dtype=torch.bool))})
        torch.testing.assert_close(dense(z[0], leaves[1], *even), alone[0])


def test_the_forms_with_maps_per_token_agree_and_so_do_their_gradients(leaves: list[Tensor]) -> None:
    """Each in its own words: pairs kept, pairs in tiles, a kernel."""
    small = [leaf.detach().float().requires_grad_() for leaf in leaves]
    expected = kept(*small)
    told = torch.autograd.grad(expected.sum(), small)
    for name, form in forms(torch.device("cpu")).items():
        if name == "dense":
            assert not torch.allclose(form(*small), expected, atol=1e-2)  # another product term
            continue
        found = form(*small)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        for mine, its in zip(torch.autograd.grad(found.sum(), small), told, strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


def test_peak_counts_what_lives_together_and_no_view() -> None:
    with Peak() as peak:
        a = torch.zeros(1000)  # 4,000 bytes
        b = a + 1  # 8,000
        del a
        b.view(10, 100).mul_(2)  # nothing new
        c = torch.cat((b, b))  # 12,000 of 4,000 + 8,000
        del b, c
        torch.zeros(100)
    assert peak.most == 12_000


def test_peak_sees_what_the_backward_pass_keeps_and_makes() -> None:
    x = torch.randn(1000, requires_grad=True)
    with Peak() as peak:
        x.exp().exp().sum().backward()
    # Both results of exp are kept; going back, the gradient of the sum is a view of one number, and two more are made.
    assert 4 * 3000 <= peak.most <= 4 * 4000 + 64


def test_memory_grows_as_the_text_says() -> None:
    """Exact counts: any machine gives these."""

    def bytes_of(form: measured_cost.Form, n: int) -> int:
        leaves = [torch.randn(shape).requires_grad_() for shape in ((n, 8), (4, 8, 8), (8,), ())]
        form(*leaves).sum().backward()  # type: ignore[no-untyped-call]
        with Peak() as peak:
            form(*leaves).sum().backward()  # type: ignore[no-untyped-call]
        return peak.most

    assert 3.6 < bytes_of(dense, 160) / bytes_of(dense, 80) < 4.1
    assert 3.6 < bytes_of(kept, 160) / bytes_of(kept, 80) < 4.1
    assert bytes_of(pooled("tiled"), 1600) / bytes_of(pooled("tiled"), 800) < 2.2


def test_slope_is_fitted_over_the_larger_half() -> None:
    assert slope([(n, 1000.0 if n < 100 else 1e-3 * n**2) for n in (10, 25, 200, 400, 800)]) == 2.0
    assert slope([(16, 1.0), (32, 2.0)]) is None


def test_it_stops_where_the_next_would_be_too_long_or_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    told = measure(width=4, counts=(4, 8, 16, 32, 1 << 20), longest=2.0)
    assert [form["form"] for form in told["forms"]][:3] == ["dense", "kept", "tiled"]
    for form in told["forms"]:
        assert [point["tokens"] for point in form["points"]] == [4, 8, 16, 32]
        assert "1,048,576 tokens would take more than 2 s" in form["stopped"]
        assert set(form["slopes"]) == {"seconds", "bytes"}
    assert told["width"] == 4 and told["device"] and told["threads"] >= 1
    monkeypatch.setattr(measured_cost, "free_memory", lambda device: 1000)
    told = measure(width=4, counts=(4, 8))
    assert [len(form["points"]) for form in told["forms"]] == [1] * len(told["forms"])
    assert "more than half of the free memory" in told["forms"][0]["stopped"]


def test_a_file_is_read_again_and_a_damaged_one_refused(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    told = measure(width=4, counts=(4, 8, 16))
    write(tmp_path, told)
    assert read(tmp_path) == told == json.loads(json.dumps(told))
    for harm in ({**told, "format": 2}, {**told, "forms": [{"form": "x"}]}, [], {**told, "forms": None}):
        (tmp_path / FILE).write_text(json.dumps(harm))
        with pytest.raises(DataError, match="can't be read"):
            read(tmp_path)
    (tmp_path / FILE).write_text(json.dumps(told).replace('"seconds": ', '"seconds": -', 1))
    with pytest.raises(DataError):
        read(tmp_path)
