"""The pair stage against the equations written out, for every option and both implementations; facts 1 to 6 of UME.

Shapes: B batch, N tokens, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.fusion import reference
from umecache.errors import UsageError
from umecache.fusion import pairs_cpu, pairs_tiled
from umecache.fusion.pairs import ACTIVATIONS, PAIRS, fold_activation, implementation, pair_pool

GROUPS = [0] * 5 + [1] * 9


@pytest.fixture(params=["tiled", "cpu"])
def impl(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each implementation; tiles of the first so small that samples are cut in every direction."""
    if request.param == "cpu" and not pairs_cpu.status().ready:
        pytest.skip(pairs_cpu.status().reason)
    monkeypatch.setattr(pairs_tiled, "CPU_TILE", 1 << 10)
    return str(request.param)


def inputs(batch: int = 3, n: int = 14, d: int = 20) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """a, b, c, w, bias whose values float32 can hold, in float64, and a mask whose last sample is empty."""
    a, b, c = (torch.randn(batch, n, d).double() for _ in range(3))
    w, bias = torch.randn(d).double() / 2, torch.randn(()).double()
    mask = torch.rand(batch, n) > 0.3
    mask[-1] = False
    return a, b, c, w, bias, mask


def relative(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm; absolute where there is nothing to compare with."""
    actual, expected = actual.detach(), expected.detach()
    scale = float(expected.norm())
    return float((actual.double() - expected).norm()) / (scale if scale > 1e-9 else 1.0)


@pytest.mark.parametrize("aws_logit", [None, "tanh", "linear"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize(
    ("impl", "dtype"), [("tiled", torch.float32), ("tiled", torch.float64), ("cpu", torch.float32)], indirect=["impl"]
)
def test_equals_the_equations(
    impl: str, dtype: torch.dtype, pairs: str, activation: str, aws_logit: str | None
) -> None:
    a, b, c, w, bias, mask = inputs()
    grad = torch.randn(3, 20).double()

    plain = [x.clone().requires_grad_() for x in (a, b, c, w, bias)]
    weighted = plain[3] if aws_logit else None
    expected = reference.pair_pool(*plain[:3], mask, weighted, plain[4], pairs, GROUPS, activation, aws_logit or "tanh")
    (expected * grad).sum().backward()

    ours = [x.to(dtype, copy=True).requires_grad_() for x in (a, b, c, w, bias)]
    options = {"pairs": pairs, "groups_N": GROUPS, "activation": activation, "aws_logit": aws_logit or "tanh"}
    f_BD = pair_pool(*ours[:3], mask, w_D=ours[3] if aws_logit else None, bias=ours[4], impl=impl, **options)
    (f_BD * grad.to(dtype)).sum().backward()

    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    assert relative(f_BD, expected) < tolerance
    assert (f_BD[-1] == 0).all(), "a sample without pairs gives zero"
    for name, mine, theirs in zip("abcw", ours, plain, strict=False):
        if name != "w" or aws_logit:
            assert theirs.grad is not None and mine.grad is not None
            assert relative(mine.grad, theirs.grad) < tolerance, name
    if aws_logit == "tanh":
        # One number that is a sum of terms of both signs: measured against the size of its terms.
        assert ours[4].grad is not None and plain[4].grad is not None
        assert abs(ours[4].grad.item() - plain[4].grad.item()) < tolerance * float(grad.abs().sum())
    if aws_logit == "linear":
        assert ours[4].grad is not None and ours[4].grad.item() == 0, "softmax drops a constant"


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 16, 23, 64])
@pytest.mark.parametrize("d", [1, 15, 16, 33])
def test_any_size(impl: str, n: int, d: int) -> None:
    a, b, c, w, bias, _ = inputs(2, n, d)
    mask = torch.ones(2, n, dtype=torch.bool)
    expected = reference.pair_pool(a, b, c, mask, w, bias, "upper", [0] * n, "tanh", "tanh")
    f_BD = pair_pool(a.float(), b.float(), c.float(), mask, w_D=w.float(), bias=bias.float(), impl=impl)
    assert relative(f_BD, expected) < 1e-5


@pytest.mark.parametrize("aws_logit", [None, "tanh", "linear"])
@pytest.mark.parametrize("pairs", PAIRS)
def test_tiled_gradient_is_the_derivative(monkeypatch: pytest.MonkeyPatch, pairs: str, aws_logit: str | None) -> None:
    monkeypatch.setattr(pairs_tiled, "CPU_TILE", 24)
    a, b, c, w, bias, mask = (x.requires_grad_() if x.is_floating_point() else x for x in inputs(2, 5, 3))
    mask[0, 1], mask[-1] = True, True

    def pool(a: Tensor, b: Tensor, c: Tensor, w: Tensor, bias: Tensor) -> Tensor:
        chosen = {"w_D": w, "bias": bias, "aws_logit": aws_logit} if aws_logit else {}
        return pair_pool(a, b, c, mask, pairs=pairs, groups_N=[0, 0, 1, 1, 1], impl="tiled", **chosen)

    assert torch.autograd.gradcheck(pool, (a, b, c, w, bias))


def test_fact_1_four_maps_fold_to_three(impl: str) -> None:
    u1, u2, u3, u4 = (torch.randn(9, 6) for _ in range(4))
    chosen = reference.pair_list([0] * 9, [True] * 9, "upper")
    expected = reference.pair_vectors(u1, u2, u3, u4, chosen, "tanh").mean(0)
    f_BD = pair_pool((u1 + u3)[None], (u2 - u3)[None], u4[None], torch.ones(1, 9, dtype=torch.bool), impl=impl)
    torch.testing.assert_close(f_BD[0], expected, rtol=1e-5, atol=1e-6)


def test_fact_2_closed_form_without_tanh() -> None:
    """Where tanh is the identity to 1e-8, the mean over all ordered pairs is mean(A) + mean(B) + mean(C)^2."""
    small = 1e-4
    a, b, c, *_ = inputs()
    mask = torch.ones(3, 14, dtype=torch.bool)
    f_BD = pair_pool(small * a, small * b, math.sqrt(small) * c, mask, pairs="all", impl="tiled") / small
    torch.testing.assert_close(f_BD, a.mean(1) + b.mean(1) + c.mean(1) ** 2, rtol=1e-6, atol=1e-6)


def test_fact_3_two_weights_differ_by_e_squared_at_most(impl: str) -> None:
    """However large w is, f stays between the mean's bounds: no pair weighs more than e^2 times another."""
    a, b, c, w, bias, _ = (x.float() for x in inputs(1, 14, 20))
    mask = torch.ones(1, 14, dtype=torch.bool)
    p = reference.pair_vectors(a[0], b[0], 0 * a[0], c[0], reference.pair_list([0] * 14, [True] * 14, "upper"), "tanh")
    share = reference.weights(p, 1e3 * w, bias, "tanh")
    assert share.max() / share.min() == pytest.approx(math.exp(2), rel=1e-4)
    f_BD = pair_pool(a, b, c, mask, w_D=1e3 * w, bias=bias, impl=impl)
    torch.testing.assert_close(f_BD[0], share @ p, rtol=1e-4, atol=1e-5)


def test_fact_4_no_running_maximum_is_needed(impl: str) -> None:
    """Logits of hundreds: exp() overflows neither if they are bounded nor, thanks to a running maximum, if not."""
    a, b, c, w, bias, mask = (x.float() if x.is_floating_point() else x for x in inputs())
    for aws_logit in ("tanh", "linear"):
        ours = [x.clone().requires_grad_() for x in (a, b, c, 500 * w)]
        f_BD = pair_pool(*ours[:3], mask, w_D=ours[3], bias=bias + 300, aws_logit=aws_logit, impl=impl)
        f_BD.sum().backward()
        assert f_BD.isfinite().all()
        assert all(x.grad is not None and x.grad.isfinite().all() for x in ours)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("pairs", PAIRS)
def test_fact_5_padding_does_not_matter(impl: str, pairs: str, weighted: bool) -> None:
    a, b, c, w, bias, mask = (x.float() if x.is_floating_point() else x for x in inputs())
    w_D = w if weighted else None
    together = pair_pool(a, b, c, mask, w_D=w_D, bias=bias, pairs=pairs, groups_N=GROUPS, impl=impl)
    for sample in range(3):
        keep = mask[sample].nonzero()[:, 0]
        groups = [GROUPS[k] for k in keep.tolist()]
        own = [x[sample : sample + 1, keep] for x in (a, b, c, mask)]
        alone = pair_pool(*own, w_D=w_D, bias=bias, pairs=pairs, groups_N=groups, impl=impl)
        garbage = [x.masked_fill(~mask[..., None], float("nan")) for x in (a, b, c)]
        noisy = pair_pool(*garbage, mask, w_D=w_D, bias=bias, pairs=pairs, groups_N=GROUPS, impl=impl)
        torch.testing.assert_close(alone[0], together[sample], rtol=1e-5, atol=1e-6)
        assert torch.equal(noisy, together)
        if impl == "cpu":
            assert torch.equal(alone[0], together[sample]), "the kernel adds in the same order, padded or not"


@pytest.mark.parametrize("weighted", [False, True])
def test_fact_6_order_of_tokens(impl: str, weighted: bool) -> None:
    a, b, c, w, bias, _ = (x.float() for x in inputs())
    mask = torch.ones(3, 14, dtype=torch.bool)
    order = torch.cat((torch.randperm(5), 5 + torch.randperm(9)))
    assert (order != torch.arange(14)).any()

    def pool(chosen: Tensor, pairs: str) -> Tensor:
        own = (x[:, chosen] for x in (a, b, c))
        return pair_pool(*own, mask, w_D=w if weighted else None, bias=bias, pairs=pairs, groups_N=GROUPS, impl=impl)

    still = torch.arange(14)
    torch.testing.assert_close(pool(order, "all"), pool(still, "all"), rtol=1e-5, atol=1e-6)
    # "cross" keeps i in the earlier modality whatever the order within each.
    torch.testing.assert_close(pool(order, "cross"), pool(still, "cross"), rtol=1e-5, atol=1e-6)
    assert (pool(order, "upper") - pool(still, "upper")).abs().max() > 1e-4
    # ... and "upper" changes through the order within pairs alone: with A = B it doesn't.
    b = a
    torch.testing.assert_close(pool(order, "upper"), pool(still, "upper"), rtol=1e-5, atol=1e-6)


def test_weights_of_ones_own_per_sample(impl: str) -> None:
    a, b, c, w, bias, mask = (x.float() if x.is_floating_point() else x for x in inputs())
    w_BD, bias_B = torch.stack((w, -w, 2 * w)), torch.stack((bias, bias + 1, bias))
    f_BD = pair_pool(a, b, c, mask, w_D=w_BD, bias=bias_B, impl=impl)
    for sample in range(3):
        alone = pair_pool(a, b, c, mask, w_D=w_BD[sample], bias=bias_B[sample], impl=impl)
        torch.testing.assert_close(f_BD[sample], alone[sample])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(impl: str, dtype: torch.dtype) -> None:
    halves = [x.to(dtype) for x in inputs(2, 40, 16)[:3]]
    mask = torch.ones(2, 40, dtype=torch.bool)
    f_BD = pair_pool(*(x.requires_grad_() for x in halves), mask, impl=impl)
    exact = pair_pool(*(x.detach().double() for x in halves), mask, impl="tiled")
    assert f_BD.dtype == dtype
    torch.testing.assert_close(f_BD.double(), exact, rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps / 16)
    f_BD.sum().backward()
    assert all(x.grad is not None and x.grad.dtype == dtype for x in halves)


@pytest.mark.parametrize("make_nan", [lambda x: x.fill_(float("nan")), lambda x: x.div_(0)], ids=["nan", "inf"])
def test_a_diverged_model_shows(impl: str, make_nan: Callable[[Tensor], Tensor]) -> None:
    a, b, c, w, bias, _ = (x.float() for x in inputs())
    mask = torch.ones(3, 14, dtype=torch.bool)
    make_nan(a[0, 3])
    make_nan(b[0, 3])
    b[0, 3] *= -1  # inf - inf
    for w_D in (None, w):
        f_BD = pair_pool(a, b, c, mask, w_D=w_D, bias=bias, impl=impl)
        assert f_BD[0].isnan().any()
        assert f_BD[1:].isfinite().all()


def test_activation_as_printed() -> None:
    x = torch.linspace(-4, 4, 9).double()
    torch.testing.assert_close(reference.activate(x, "tanh2"), torch.tanh(x * math.log(2)))
    a, b, c = fold_activation(x, x, x, "tanh2")
    torch.testing.assert_close(torch.tanh(a + b + c * c), reference.activate(x + x + x * x, "tanh2"))


def test_wrong_options_are_refused() -> None:
    a, b, c, _, _, mask = inputs()
    for option in ({"pairs": "upper "}, {"activation": "relu"}, {"aws_logit": "softmax"}, {"impl": "gpu"}):
        with pytest.raises(UsageError, match=next(iter(option.values())).strip()):
            pair_pool(a, b, c, mask, **option)
    with pytest.raises(ValueError, match="14 tokens"):
        pair_pool(a, b, c, mask, pairs="cross", groups_N=[0, 1])


def test_which_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert implementation(cpu, torch.float64)[0] == "tiled"
    assert implementation(torch.device("cuda"), torch.float32)[0] == "tiled"
    assert implementation(cpu, torch.float32, "tiled") == ("tiled", "asked for")
    with pytest.raises(UsageError, match="float64"):
        implementation(cpu, torch.float64, "cpu")
    monkeypatch.setenv("UMECACHE_PAIRS", "tiled")
    assert implementation(cpu, torch.float32)[0] == "tiled"
    monkeypatch.setenv("UMECACHE_PAIRS", "vulkan")
    with pytest.raises(UsageError, match="vulkan"):
        implementation(cpu, torch.float32)
    monkeypatch.delenv("UMECACHE_PAIRS")
    monkeypatch.setattr(pairs_cpu, "status", lambda: pairs_cpu.KernelStatus(False, "no C compiler found"))
    assert implementation(cpu, torch.float32) == ("tiled", "no C compiler found")
