"""What every fusion method must do: one suite, inherited by the registry's methods and by anyone's own.

    class TestMine(FusionContract):
        @pytest.fixture
        def make(self):
            return Mine                      # called as make(dims, **options)

What a method may do without is said by overriding `limit`, `ordered` and `declared`.

Shapes: B batch, T tokens of one modality, D width of its features, F width of the fused vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from tests.fusion.measure import Batch, measure
from umecache.errors import UsageError
from umecache.fusion.base import Fusion
from umecache.fusion.cost import Figures

Make = Callable[..., Fusion]
Declared = Callable[[Mapping[str, int], Mapping[str, int], int], Figures]


def make_batch(dims: Mapping[str, int], lengths: list[dict[str, int]], *, seed: int = 0) -> Batch:
    """Random features, `lengths[sample][modality]` real tokens each, padded with zeros to the longest."""
    generator = torch.Generator().manual_seed(seed)
    batch: Batch = {}
    for name, dim in dims.items():
        longest = max(sample[name] for sample in lengths)
        tokens_BTD = torch.randn(len(lengths), longest, dim, generator=generator)
        mask_BT = torch.arange(longest)[None] < torch.tensor([sample[name] for sample in lengths])[:, None]
        batch[name] = (tokens_BTD * mask_BT[..., None], mask_BT)
    return batch


def pick(batch: Batch, samples: list[int]) -> Batch:
    """Some samples of a batch."""
    return {name: (tokens[samples], mask[samples]) for name, (tokens, mask) in batch.items()}


class FusionContract:
    """Inherit, and say `make`."""

    dims: ClassVar[dict[str, int]] = {"text": 12, "image": 20}
    lengths: ClassVar[list[dict[str, int]]] = [
        {"text": 5, "image": 9},
        {"text": 2, "image": 9},
        {"text": 7, "image": 3},
    ]
    width: ClassVar[int] = 16

    @pytest.fixture
    def make(self) -> Make:
        """The method: called as make(dims, width=..., ...)."""
        raise NotImplementedError

    @pytest.fixture
    def limit(self) -> str | None:
        """Why the method can't learn everything: "control", it leaves a modality out; "additive", its logits are a
        sum over modalities."""
        return None

    @pytest.fixture
    def ordered(self) -> bool:
        """The order of a modality's tokens matters."""
        return False

    @pytest.fixture
    def declared(self) -> Declared | None:
        """What it says it costs: (dims, tokens of each modality, width) -> figures."""
        return None

    def fusion(self, make: Make, dims: Mapping[str, int] | None = None, *, seed: int = 0, **options: object) -> Fusion:
        torch.manual_seed(seed)
        return make(dims or self.dims, width=self.width, **options)

    def test_shape(self, make: Make) -> None:
        fusion = self.fusion(make)
        f_BF = fusion(make_batch(self.dims, self.lengths))
        assert f_BF.shape == (len(self.lengths), fusion.out_dim)
        assert f_BF.dtype == torch.float32
        assert f_BF.std(0).max() > 1e-4, "samples are told apart"

    def test_padding_does_not_matter(self, make: Make) -> None:
        fusion = self.fusion(make).eval()
        together_BF = fusion(make_batch(self.dims, self.lengths))
        batch = make_batch(self.dims, self.lengths)
        for sample in range(len(self.lengths)):
            alone = {
                name: (tokens[[sample], : self.lengths[sample][name]], mask[[sample], : self.lengths[sample][name]])
                for name, (tokens, mask) in batch.items()
            }
            padded = {
                name: (F.pad(tokens, (0, 0, 0, 40), value=float("nan")), F.pad(mask, (0, 40)))
                for name, (tokens, mask) in alone.items()
            }
            torch.testing.assert_close(fusion(alone)[0], together_BF[sample], rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(fusion(padded)[0], together_BF[sample], rtol=1e-5, atol=1e-6)

    def test_padding_gets_no_gradient(self, make: Make) -> None:
        batch = make_batch(self.dims, self.lengths)
        leaves = {name: (tokens.requires_grad_(), mask) for name, (tokens, mask) in batch.items()}
        self.fusion(make)(leaves).square().sum().backward()
        for tokens, mask in leaves.values():
            if tokens.grad is not None:  # a control leaves a modality out
                assert tokens.grad[~mask].abs().sum() == 0
                assert tokens.grad.isfinite().all()

    def test_company_does_not_matter(self, make: Make) -> None:
        fusion = self.fusion(make).eval()
        batch = make_batch(self.dims, self.lengths)
        order = [2, 0, 1, 0]
        torch.testing.assert_close(fusion(pick(batch, order)), fusion(batch)[order], rtol=1e-5, atol=1e-6)

    def test_order_of_the_mapping_does_not_matter(self, make: Make) -> None:
        fusion = self.fusion(make).eval()
        batch = make_batch(self.dims, self.lengths)
        assert torch.equal(fusion(dict(reversed(batch.items()))), fusion(batch))

    def test_gradient_reaches_every_weight(self, make: Make) -> None:
        fusion = self.fusion(make)
        weights_F = torch.randn(fusion.out_dim)
        (fusion(make_batch(self.dims, self.lengths)) @ weights_F).square().sum().backward()
        largest = {
            name: float(p.grad.abs().max()) if p.grad is not None else 0.0 for name, p in fusion.named_parameters()
        }
        assert min(largest.values()) > 1e-8, largest

    def test_finite_in_bfloat16(self, make: Make) -> None:
        fusion = self.fusion(make)
        batch = make_batch(self.dims, self.lengths)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            f_BF = fusion(batch)
            loss = f_BF.float().square().sum()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in fusion.parameters())
        expected_BF = fusion(batch)
        error = (f_BF.float() - expected_BF).norm() / expected_BF.norm()
        assert error < 0.05

    def test_weights_in_bfloat16(self, make: Make) -> None:
        fusion = self.fusion(make).bfloat16()
        f_BF = fusion(make_batch(self.dims, self.lengths))
        assert f_BF.isfinite().all()
        f_BF.float().square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in fusion.parameters())

    def test_takes_half_precision_features(self, make: Make) -> None:
        fusion = self.fusion(make).eval()
        batch = make_batch(self.dims, self.lengths)
        halved = {name: (tokens.half(), mask) for name, (tokens, mask) in batch.items()}
        widened = {name: (tokens.half().float(), mask) for name, (tokens, mask) in batch.items()}
        torch.testing.assert_close(fusion(halved), fusion(widened))

    def test_same_seed_same_numbers(self, make: Make) -> None:
        batch = make_batch(self.dims, self.lengths)
        one, two, other = (self.fusion(make, seed=seed, dropout=0.5) for seed in (3, 3, 4))
        for name, value in one.state_dict().items():
            assert torch.equal(value, two.state_dict()[name]), name
        torch.manual_seed(5)
        first_BF = one(batch)
        torch.manual_seed(5)
        assert torch.equal(two(batch), first_BF)
        assert not torch.equal(other.eval()(batch), one.eval()(batch))
        assert torch.equal(one(batch), one(batch)), "no dropout in eval mode"

    def test_state_round_trip(self, make: Make) -> None:
        batch = make_batch(self.dims, self.lengths)
        one, two = self.fusion(make, seed=1).eval(), self.fusion(make, seed=2).eval()
        two.load_state_dict({name: value.clone() for name, value in one.state_dict().items()}, strict=True)
        assert torch.equal(one(batch), two(batch))

    @pytest.mark.parametrize("empty", ["text", "image", "both"])
    def test_a_record_without_tokens(self, make: Make, empty: str) -> None:
        none = {name: 0 if empty in (name, "both") else 4 for name in self.dims}
        fusion = self.fusion(make)
        f_BF = fusion(make_batch(self.dims, [*self.lengths, none]))
        assert f_BF.isfinite().all()
        f_BF.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in fusion.parameters())
        bare = make_batch(self.dims, [none])  # not even padding is there
        padded = {name: (F.pad(tokens, (0, 0, 0, 3)), F.pad(mask, (0, 3))) for name, (tokens, mask) in bare.items()}
        assert fusion(bare).isfinite().all()
        torch.testing.assert_close(fusion(padded), fusion(bare), rtol=1e-5, atol=1e-6)

    def test_three_modalities(self, make: Make, limit: str | None) -> None:
        """Fused, each of them seen; or refused in words."""
        dims = {**self.dims, "audio": 8}
        try:
            fusion = self.fusion(make, dims).eval()
        except UsageError as refusal:
            assert "2 modalities" in refusal.what
            return
        batch = make_batch(dims, [{**sample, "audio": 4} for sample in self.lengths])
        f_BF = fusion(batch)
        assert f_BF.shape == (len(self.lengths), fusion.out_dim)
        if limit != "control":
            other = {**batch, "audio": (torch.randn_like(batch["audio"][0]), batch["audio"][1])}
            assert not torch.allclose(fusion(other), f_BF)

    def test_order_of_tokens(self, make: Make, ordered: bool) -> None:
        """Positions are what the encoders put into the features; a method that looks at the order says so."""
        fusion = self.fusion(make).eval()
        batch = make_batch(self.dims, [{"text": 5, "image": 9}] * 3)
        turned = {name: (tokens.flip(1), mask) for name, (tokens, mask) in batch.items()}
        assert torch.allclose(fusion(turned), fusion(batch), rtol=1e-4, atol=1e-5) != ordered

    @pytest.mark.parametrize(
        ("width", "tokens"),
        [
            (16, {"text": 3, "image": 5}),
            (32, {"text": 6, "image": 2}),
            (16, {"text": 3, "image": 5, "audio": 2}),
        ],
        ids=["narrow", "wide", "three"],
    )
    def test_costs_what_it_declares(
        self, make: Make, declared: Declared | None, width: int, tokens: dict[str, int]
    ) -> None:
        dims = {name: {"audio": 8, **self.dims}[name] for name in tokens}
        torch.manual_seed(0)
        try:
            fusion = make(dims, width=width)
        except UsageError:
            assert len(dims) > 2
            return
        if declared is None:
            return
        found = measure(fusion, make_batch(dims, [tokens]), make_batch(dims, [tokens] * 3))
        said = declared(dims, tokens, width)
        assert (said.parameters, said.macs) == (found.parameters, found.macs)
        assert said.memory == pytest.approx(found.memory, rel=0.05)

    def test_learns_what_needs_both(self, make: Make, limit: str | None) -> None:
        """A bit in the text and a bit in the image: which of the four cases is it, and do the bits differ? To a
        control the first is a coin toss on one bit, the second on everything; to a sum over modalities the second is.
        """
        dims = {"text": 6, "image": 8}
        batch = make_batch(dims, [{"text": 2, "image": 3}] * 256, seed=1)
        bits_B2 = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).repeat(64, 1)
        for modality, bit_B in zip(dims, bits_B2.T, strict=True):
            batch[modality][0].mul_(0.3)[:, :, 0] = 2.0 * bit_B[:, None] - 1
            batch[modality][0][:, :, 1] = 1  # without it, a product can't tell two changed signs from none
        case_B, differ_B = bits_B2 @ torch.tensor([2, 1]), bits_B2.sum(1) % 2
        train, held_out = list(range(96)), list(range(96, 256))
        fusion = self.fusion(make, dims)
        head = nn.Linear(fusion.out_dim, 6)
        optimizer = torch.optim.Adam([*fusion.parameters(), *head.parameters()], lr=1e-2)
        seen = pick(batch, train)
        for _ in range(200):
            optimizer.zero_grad()
            case_B4, differ_B2 = head(fusion(seen)).split((4, 2), dim=1)
            loss = F.cross_entropy(case_B4, case_B[train]) + F.cross_entropy(differ_B2, differ_B[train])
            if loss.item() < 0.05:
                break
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            case_B4, differ_B2 = head(fusion.eval()(pick(batch, held_out))).split((4, 2), dim=1)
        case = float((case_B4.argmax(1) == case_B[held_out]).float().mean())
        differ = float((differ_B2.argmax(1) == differ_B[held_out]).float().mean())
        assert (case < 0.7) if limit == "control" else (case > 0.95), (case, differ)
        assert (differ < 0.7) if limit is not None else (differ > 0.95), (case, differ)

    def test_token_weights_sum_to_one(self, make: Make) -> None:
        weights = self.fusion(make).token_weights(make_batch(self.dims, self.lengths))
        if weights is None:
            return
        assert list(weights) == list(self.dims)
        total_B = sum(weights_BT.sum(1) for weights_BT in weights.values())
        torch.testing.assert_close(total_B, torch.ones(len(self.lengths)))
        batch = make_batch(self.dims, self.lengths)
        assert all((weights[name][~mask] == 0).all() for name, (_, mask) in batch.items())

    def test_attention_weights_sum_to_one(self, make: Make) -> None:
        batch = make_batch(self.dims, self.lengths)
        fusion = self.fusion(make).eval()
        weights = fusion.attention_weights(batch)
        if weights is None:
            return
        assert list(weights) == list(self.dims)
        total_B = sum(weights_BT.sum(1) for weights_BT in weights.values())
        torch.testing.assert_close(total_B, torch.ones(len(self.lengths)))
        for name, (_, mask) in batch.items():
            assert not weights[name].requires_grad
            assert (weights[name][~mask] == 0).all() and (weights[name] >= 0).all()
        alone = fusion.attention_weights(pick(batch, [1]))
        assert alone is not None
        torch.testing.assert_close(alone["image"][0], weights["image"][1], rtol=1e-5, atol=1e-6)

    def test_joint_tokens_belong_to_their_modality(self, make: Make) -> None:
        """Shapes and masks of what came in; real tokens don't depend on padding."""
        batch = make_batch(self.dims, self.lengths)
        fusion = self.fusion(make).eval()
        joint = fusion.joint_tokens(batch)
        if joint is None:
            return
        assert list(joint) == list(self.dims)
        short = {name: (tokens[[1], : self.lengths[1][name]], mask[[1], : self.lengths[1][name]])
                 for name, (tokens, mask) in batch.items()}  # fmt: skip
        alone = fusion.joint_tokens(short)
        assert alone is not None
        for name, (tokens_BTD, mask_BT) in joint.items():
            assert tokens_BTD.shape == (*batch[name][0].shape[:2], self.width)
            assert torch.equal(mask_BT, batch[name][1])
            torch.testing.assert_close(alone[name][0][0], tokens_BTD[1][mask_BT[1]], rtol=1e-5, atol=1e-5)
        other = {**batch, "image": (torch.randn_like(batch["image"][0]), batch["image"][1])}
        changed = fusion.joint_tokens(other)
        assert changed is not None and not torch.allclose(changed["image"][0], joint["image"][0])

    def test_facts_are_numbers(self, make: Make) -> None:
        fusion = self.fusion(make)
        fusion(make_batch(self.dims, self.lengths))
        assert all(isinstance(value, float) and value == value for value in fusion.facts().values())
