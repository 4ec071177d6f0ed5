"""UAT: the mean over pairs of tokens, without the attention in front of them.

No public paper that we know of defines a method of this name; "mean-pooled pairs" is all that is said of it, so the
form is ours: the pair stage of K. Lee's thesis (evc.py) on the projected tokens themselves. Beside `evc` it shows what
the attention brings, beside `ume` what attention and weights bring together.

    X = concat_m(H_m P_m)    U_k = X W_k^T, k = 1..4
    p_ij = tanh(U1_i + U2_j + (U3_i - U3_j) + U4_i * U4_j)    f = mean over pairs(p_ij)
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.evc import PairMaps
from umecache.fusion.layers import TokenProjection, check_choice, check_sizes, join
from umecache.fusion.pairs import ACTIVATIONS, PAIRS, pair_pool


class UAT(Fusion):
    """The mean over pairs of projected tokens.

    Args:
        dims: modality -> width of its features.
        width: D, the width of tokens, pairs and the fused vector.
        dropout: on the fused vector.
        pairs: "upper" (i <= j), "all" (ordered pairs), "cross" (i < j, of different modalities).
        activation: "tanh", or "tanh2" = tanh(x ln 2).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        pairs: str = "upper",
        activation: str = "tanh",
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width
        self.pairs = check_choice("pairs", pairs, PAIRS)
        self.activation = check_choice("activation", activation, ACTIVATIONS)
        self.project = TokenProjection(dims, width, input_norm)
        self.combine = PairMaps(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        x_BND, mask_BN, counts = join(self.project(features))
        groups = [number for number, count in enumerate(counts) for _ in range(count)]
        a_BND, b_BND, c_BND = self.combine(x_BND)
        f_BD = pair_pool(a_BND, b_BND, c_BND, mask_BN, pairs=self.pairs, groups_N=groups, activation=self.activation)
        out_BD: Tensor = self.dropout(f_BD)
        return out_BD
