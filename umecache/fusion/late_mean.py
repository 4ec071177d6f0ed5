"""Late ensemble, mean: every modality has a classifier of its own, and their logits are averaged.

Averaging members after the classifier is as old as ensembles; for modalities see Snoek et al., Early versus Late Fusion
in Semantic Video Analysis (ACM Multimedia 2005).

    logits = 1/M sum_m (V_m h_m + c)    h_m = gelu(W_m p_m + b_m)    p_m = mean over real tokens(H_m P_m)
           = V f + c    with    f = [h_1; ...; h_M] / M    and    V = [V_1, ..., V_M]

So the head that every method has is all members' classifiers side by side, and no number of one modality ever meets one
of another before the sum: what needs both at once (an exclusive or) can't be learnt. Each member is just the control of
its modality (`text-only`, `image-only`). They share one loss, that of the ensemble: members that were trained alone and
averaged afterwards are two control runs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import Hidden, TokenProjection, check_sizes


class LateMean(Fusion):
    """Unimodal hidden layers side by side, so that a linear head is the mean of unimodal classifiers.

    Args:
        dims: modality -> width of its features.
        width: width of each projection and of each member's hidden layer; the fused vector is M times as wide.
        dropout: on the members' hidden layers.
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self, dims: Mapping[str, int], *, width: int = 256, dropout: float = 0.0, input_norm: str = "layer"
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width * len(dims)
        self.project = TokenProjection(dims, width, input_norm)
        self.members = nn.ModuleList(Hidden(width, width, dropout) for _ in dims)

    def shares(self) -> Tensor:
        """The weight of each member [M]; they sum to 1."""
        some = next(self.parameters())
        return some.new_full((len(self.members),), 1 / len(self.members))

    def forward(self, features: Features) -> Tensor:
        pooled = self.project.pooled(features)
        h_BMK = torch.stack([member(p_BK) for member, p_BK in zip(self.members, pooled, strict=True)], dim=1)
        return (h_BMK * self.shares()[:, None].to(h_BMK.dtype)).flatten(1)
