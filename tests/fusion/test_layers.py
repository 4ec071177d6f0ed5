"""The pieces that methods share, each against its definition.

Shapes: B batch, T tokens of one modality, N tokens of all, D width.
"""

from __future__ import annotations

import pytest
import torch

from tests.fusion import reference
from umecache.errors import UsageError
from umecache.fusion.layers import (
    CrossModalAttention,
    Hidden,
    TokenProjection,
    check_choice,
    check_modalities,
    check_number,
    check_sizes,
    guide_of,
    join,
    masked_mean,
    masked_softmax,
    multiply,
    power_normalise,
    split,
    zero_padding,
)


def test_zero_padding() -> None:
    x, mask = torch.tensor([[[1.0], [float("nan")]]]), torch.tensor([[True, False]])
    assert zero_padding(x, mask).tolist() == [[[1.0], [0.0]]]
    assert zero_padding(x, torch.ones(1, 2, dtype=torch.bool)) is x, "nothing to do, nothing copied"


def test_masked_mean() -> None:
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [float("nan"), 9.0]], [[5.0, 6.0], [7.0, 8.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(x, mask).tolist() == [[2.0, 3.0], [0.0, 0.0]]


@pytest.mark.parametrize("input_norm", ["layer", "none"])
def test_projection_is_a_linear_map_of_each_token(input_norm: str) -> None:
    project = TokenProjection({"image": 6, "weird.name": 4}, 3, input_norm)
    first, second = torch.randn(2, 5, 6), torch.randn(2, 2, 4)
    mask = torch.tensor([[True, True, True, False, False], [True] * 5])
    got = project({"weird.name": (second, torch.ones(2, 2, dtype=torch.bool)), "image": (first, mask)})
    x = first
    if input_norm == "layer":
        x = (first - first.mean(-1, keepdim=True)) / (first.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = x @ project.maps[0].weight.T + project.maps[0].bias
    torch.testing.assert_close(got[0][0], expected * mask[..., None])
    assert got[0][1] is mask
    assert [tokens.shape for tokens, _ in got] == [(2, 5, 3), (2, 2, 3)], "in the order of dims"


@pytest.mark.parametrize("input_norm", ["layer", "none"])
def test_pooled_is_the_mean_of_what_is_projected(input_norm: str) -> None:
    project = TokenProjection({"text": 6, "image": 4}, 3, input_norm)
    mask = torch.tensor([[True, True, False], [True] * 3, [False] * 3])
    batch = {"text": (torch.randn(3, 3, 6), mask), "image": (torch.randn(3, 2, 4), torch.ones(3, 2, dtype=torch.bool))}
    for p_BK, (tokens, own_mask) in zip(project.pooled(batch), project(batch), strict=True):
        torch.testing.assert_close(p_BK, masked_mean(tokens, own_mask), rtol=1e-5, atol=1e-6)


def test_layer_norm_puts_encoders_on_one_scale() -> None:
    """A factor on all features of one encoder, and nothing else, doesn't change what is projected."""
    project = TokenProjection({"text": 64}, 8)
    x, mask = torch.randn(2, 3, 64), torch.ones(2, 3, dtype=torch.bool)
    [(once, _)], [(scaled, _)] = project({"text": (x, mask)}), project({"text": (100 * x, mask)})
    torch.testing.assert_close(once, scaled, rtol=1e-3, atol=1e-4)


def test_join() -> None:
    parts = [(torch.full((1, n, 2), float(n)), torch.full((1, n), n == 3)) for n in (2, 3)]
    x, mask, counts = join(parts)
    assert x[0, :, 0].tolist() == [2, 2, 3, 3, 3]
    assert mask[0].tolist() == [False, False, True, True, True]
    assert counts == (2, 3)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_the_equation(heads: int) -> None:
    attend = CrossModalAttention(8, heads=heads).eval()
    x_BND = torch.randn(2, 6, 8)
    mask = torch.tensor([[True] * 6, [True, False, True, True, False, False]])
    z_BND = attend(x_BND, mask)
    q, k, v = ((layer.weight, layer.bias) for layer in (attend.query, attend.key, attend.value))
    for sample in range(2):
        expected = reference.attention(x_BND[sample], mask[sample].tolist(), q, k, v, heads)
        torch.testing.assert_close(z_BND[sample], expected, rtol=1e-5, atol=1e-6)


def test_residual_is_layer_norm_of_the_sum() -> None:
    plain, residual = CrossModalAttention(8), CrossModalAttention(8, residual=True)
    residual.load_state_dict(plain.state_dict(), strict=False)
    x, mask = torch.randn(2, 6, 8), torch.ones(2, 6, dtype=torch.bool)
    expected = torch.nn.functional.layer_norm(x + plain(x, mask), (8,))
    torch.testing.assert_close(residual(x, mask), expected)


def test_drawn_attention_makes_tokens_alike_and_the_residual_keeps_them_apart() -> None:
    """The reason for `ume-res`: spread of tokens over their mean norm, at the start."""

    def spread(x: torch.Tensor) -> float:
        return float((x - x.mean(1, keepdim=True)).norm(dim=-1).mean() / x.mean(1).norm(dim=-1).mean())

    x, mask = torch.randn(4, 50, 64), torch.ones(4, 50, dtype=torch.bool)
    with torch.no_grad():
        assert spread(CrossModalAttention(64)(x, mask)) < 0.5
        assert spread(CrossModalAttention(64, residual=True)(x, mask)) > 5


def test_hidden_drops_out_only_in_training() -> None:
    hidden = Hidden(4, 200, dropout=0.5)
    x = torch.randn(3, 4)
    dropped = (hidden(x) == 0).float().mean()
    assert 0.3 < dropped < 0.7
    expected = torch.nn.functional.gelu(x @ hidden.linear.weight.T + hidden.linear.bias)
    torch.testing.assert_close(hidden.eval()(x), expected)


@pytest.mark.parametrize("width", [0, -4, 2.5, True, "256"])
def test_width_is_checked(width: object) -> None:
    with pytest.raises(UsageError, match="width"):
        check_sizes(width, 0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("dropout", [1, -0.1, "0.1", True])
def test_dropout_is_checked(dropout: object) -> None:
    with pytest.raises(UsageError, match="dropout"):
        check_sizes(8, dropout)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "word"), [({"heads": 3}, "heads"), ({"heads": 0}, "heads"), ({"residual": "no"}, "residual")]
)
def test_attention_options_are_checked(options: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        CrossModalAttention(8, **options)  # type: ignore[arg-type]


def test_choices_are_listed() -> None:
    assert check_choice("pairs", "all", ("upper", "all")) == "all"
    with pytest.raises(UsageError, match="upper, all") as caught:
        check_choice("pairs", "both", ("upper", "all"))
    assert caught.value.next == "--method-arg pairs=upper"
    with pytest.raises(UsageError, match="input_norm"):
        TokenProjection({"text": 4}, 4, "batch")
    with pytest.raises(UsageError, match="at least one modality"):
        TokenProjection({}, 4)


def test_numbers_are_checked() -> None:
    assert check_number("rank", 3) == 3
    for value in (1, 2.0, True, "3"):
        with pytest.raises(UsageError, match="whole number from 2 up"):
            check_number("rank", value, least=2)


def test_counts_of_modalities_are_checked() -> None:
    check_modalities("ban", {"text": 1, "image": 2}, most=2)
    check_modalities("tfn", {"text": 1, "image": 2, "audio": 3}, most=3)
    with pytest.raises(UsageError, match="'ban' joins exactly 2 modalities, not 1") as caught:
        check_modalities("ban", {"text": 1}, most=2)
    assert caught.value.why == "Given: text."
    with pytest.raises(UsageError, match="'tfn' joins 2 to 3 modalities, not 4"):
        check_modalities("tfn", dict.fromkeys("abcd", 1), most=3)


def test_the_text_guides_else_the_first() -> None:
    assert guide_of({"image": 1, "text": 2}) == 1
    assert guide_of({"image": 1, "audio": 2}) == 0


def test_masked_softmax() -> None:
    logits, mask = torch.tensor([[1.0, 2.0, 9.0]] * 2), torch.tensor([[True, True, False], [False] * 3])
    e = torch.exp(torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(masked_softmax(logits, mask)[0], torch.cat((e / e.sum(), torch.zeros(1))))
    assert (masked_softmax(logits, mask)[1] == 0).all()
    assert masked_softmax(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool)).shape == (2, 0)


def test_multiply() -> None:
    assert multiply([torch.tensor([2.0, 3.0]), torch.tensor([5.0, -1.0]), torch.tensor([1.0, 2.0])]).tolist() == [
        10,
        -6,
    ]


def test_power_normalise() -> None:
    x = torch.tensor([[4.0, -9.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    y = power_normalise(x)
    torch.testing.assert_close(y[0], torch.tensor([2.0, -3.0, 0.0]) / 13**0.5, rtol=1e-4, atol=1e-6)
    assert (y[1] == 0).all()
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_pooled_can_keep_the_bias_of_what_is_missing() -> None:
    project = TokenProjection({"text": 6}, 3)
    batch = {"text": (torch.randn(2, 3, 6), torch.tensor([[True] * 3, [False] * 3]))}
    [zero], [kept] = project.pooled(batch), project.pooled(batch, bias_if_empty=True)
    assert (zero[1] == 0).all()
    torch.testing.assert_close(kept[1], project.maps[0].bias)
    torch.testing.assert_close(kept[0], zero[0])


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_received_against_a_plain_sum(heads: int) -> None:
    torch.manual_seed(0)
    attend = CrossModalAttention(8, heads=heads)
    x_BND, mask_BN = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True, True, False, True, False]])
    found_BN = attend.weights(x_BND, mask_BN)
    for x_ND, mask_N, row_N in zip(x_BND, mask_BN, found_BN, strict=True):
        q_ND, k_ND, real = attend.query(x_ND).detach(), attend.key(x_ND).detach(), mask_N.nonzero().flatten().tolist()
        expected = [0.0] * 5
        for head in range(heads):
            part = slice(head * 8 // heads, (head + 1) * 8 // heads)
            for i in real:
                told = {j: float(torch.exp(q_ND[i, part] @ k_ND[j, part] / (8 / heads) ** 0.5)) for j in real}
                for j in real:
                    expected[j] += told[j] / sum(told.values()) / len(real) / heads
        assert row_N.tolist() == pytest.approx(expected, abs=1e-6)


def test_split_undoes_join() -> None:
    parts = {"text": torch.randn(2, 3, 4), "image": torch.randn(2, 5, 4)}
    joined, _, counts = join([(x, torch.ones(x.shape[:2], dtype=torch.bool)) for x in parts.values()])
    apart = split(joined, tuple(parts), counts)
    assert all(torch.equal(apart[name], x) for name, x in parts.items())
