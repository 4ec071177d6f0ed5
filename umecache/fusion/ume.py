"""UME, the unified modal ensemble: EVC with its pairs summed by adaptive weights (AWS) in place of their mean.

K. Lee, Research on Efficient Modality Fusion for Enhanced Uni-modal Ensemble, thesis.

    p_ij as in evc.py    e_ij = tanh(w . p_ij + b)    a = softmax over pairs(e)    f = sum a_ij p_ij

With tanh logits two weights differ by e^2 at most, so the sum stays close to the mean: look at `facts`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from umecache.fusion.base import Features
from umecache.fusion.evc import EVC
from umecache.fusion.layers import check_choice
from umecache.fusion.pair_weights import PairWeights, pair_weights_summary
from umecache.fusion.pairs import AWS_LOGITS, pair_pool

SAMPLES = 4  # of a batch: enough for a fact, small enough to keep


class UME(EVC):
    """Attention, then all pairs, weighted.

    Args:
        dims: modality -> width of its features.
        width: D, the width of tokens, pairs and the fused vector.
        dropout: on the fused vector, and inside the residual if there is one.
        pairs: "upper" (i <= j), "all" (ordered pairs), "cross" (i < j, of different modalities).
        activation: "tanh", or "tanh2" = tanh(x ln 2), the formula as printed in the source.
        aws_logit: "tanh" (the source), or "linear": unbounded, weights may concentrate; harder to train.
        heads: attention heads (1: the equation as printed).
        residual: LayerNorm(X + Z) in place of Z (off: the source's drawing; on: `ume-res`).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none", the drawing).
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        pairs: str = "upper",
        activation: str = "tanh",
        aws_logit: str = "tanh",
        heads: int = 1,
        residual: bool = False,
        input_norm: str = "layer",
    ) -> None:
        super().__init__(
            dims,
            width=width,
            dropout=dropout,
            pairs=pairs,
            activation=activation,
            heads=heads,
            residual=residual,
            input_norm=input_norm,
        )
        self.aws_logit = check_choice("aws_logit", aws_logit, AWS_LOGITS)
        # Softmax drops a constant, so a linear logit has no use for a bias.
        self.weigh = nn.Linear(width, 1, bias=aws_logit == "tanh")
        self._last: tuple[tuple[Tensor, Tensor, Tensor], Tensor, list[int]] | None = None

    def forward(self, features: Features) -> Tensor:
        abc, mask_BN, groups = self.tokens(features)
        a, b, c = (x_BND[:SAMPLES].detach().clone() for x_BND in abc)
        self._last = (a, b, c), mask_BN[:SAMPLES], groups
        f_BD = pair_pool(
            *abc,
            mask_BN,
            w_D=self.weigh.weight[0],
            bias=self.weigh.bias,
            pairs=self.pairs,
            groups_N=groups,
            activation=self.activation,
            aws_logit=self.aws_logit,
        )
        out_BD: Tensor = self.dropout(f_BD)
        return out_BD

    def _summary(self, abc: tuple[Tensor, Tensor, Tensor], mask_BN: Tensor, groups: list[int]) -> PairWeights:
        return pair_weights_summary(
            *abc,
            mask_BN,
            w_D=self.weigh.weight[0],
            bias=self.weigh.bias,
            pairs=self.pairs,
            groups_N=groups,
            activation=self.activation,
            aws_logit=self.aws_logit,
        )

    @torch.no_grad()
    def pair_weights(self, features: Features) -> PairWeights:
        """The AWS weights of a batch: token shares, entropy, effective share."""
        return self._summary(*self.tokens(features))

    def token_weights(self, features: Features) -> dict[str, Tensor]:
        """AWS weight of each token, its pairs summed: modality -> [B, T]."""
        counts = [features[name][1].shape[1] for name in self.project.modalities]
        shares = torch.split(self.pair_weights(features).token, counts, dim=1)
        return dict(zip(self.project.modalities, shares, strict=True))

    @torch.no_grad()
    def facts(self) -> dict[str, float]:
        """Of the first samples of the last batch, averaged: `aws_entropy` (share of the largest possible, log of the
        pair count), `aws_effective_share` ((sum a)^2 / sum a^2 over the pair count; 1: uniform)."""
        if self._last is None:
            return {}
        weights = self._summary(*self._last)
        some_B = weights.pairs > 0
        if not bool(some_B.any()):
            return {}
        return {
            "aws_entropy": float(weights.relative_entropy[some_B].mean()),
            "aws_effective_share": float(weights.effective_share[some_B].mean()),
        }
