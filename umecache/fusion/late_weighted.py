"""Late ensemble, weighted: `late-mean` with a learnt weight for each modality's classifier.

    logits = sum_m a_m (V_m h_m + c)    a = softmax(u), u learnt    so    f = [a_1 h_1; ...; a_M h_M]

The weights start equal and are the same for every question; Snoek et al. (ACM Multimedia 2005) learn how to combine the
streams' scores likewise.
Since V_m could take up the factor a_m, the weights change how the ensemble trains, not what it can say; `facts` reports
them, and they rank members only as far as the members' own logits are alike in size.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from umecache.fusion.late_mean import LateMean


class LateWeighted(LateMean):
    """Unimodal hidden layers side by side, each times a learnt weight.

    Args:
        dims: modality -> width of its features.
        width: width of each projection and of each member's hidden layer; the fused vector is M times as wide.
        dropout: on the members' hidden layers.
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self, dims: Mapping[str, int], *, width: int = 256, dropout: float = 0.0, input_norm: str = "layer"
    ) -> None:
        super().__init__(dims, width=width, dropout=dropout, input_norm=input_norm)
        self.u_M = nn.Parameter(torch.zeros(len(dims)))

    def shares(self) -> Tensor:
        """softmax(u), [M]."""
        return self.u_M.softmax(0)

    @torch.no_grad()
    def facts(self) -> dict[str, float]:
        """`weight_MODALITY`: its classifier's weight in the ensemble."""
        shares = self.shares().tolist()
        return {f"weight_{name}": share for name, share in zip(self.project.modalities, shares, strict=True)}
