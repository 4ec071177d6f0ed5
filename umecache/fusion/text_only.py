"""Control: the question alone. What it reaches, no fusion has to look at the image for.

The "question only" rows of Goyal et al., Making the V in VQA Matter (CVPR 2017, arXiv:1612.00837); pooled tokens
and one hidden layer, as in `concat`.

    f = gelu(W p_text + b)        p_text = mean over real tokens(H_text P_text)
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from umecache.errors import UsageError
from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import Hidden, TokenProjection, check_sizes


class OneModality(Fusion):
    """One modality, pooled; the others are not looked at.

    Args:
        dims: modality -> width of its features; `modality` must be among them.
        modality: its name.
        width: width of the projection and of the fused vector.
        dropout: on the fused vector.
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(self, dims: Mapping[str, int], modality: str, *, width: int, dropout: float, input_norm: str) -> None:
        super().__init__()
        check_sizes(width, dropout)
        if modality not in dims:
            raise UsageError(
                f"The control {modality}-only needs features named {modality!r}.",
                why=f"The features named here: {', '.join(dims) or 'none'}.",
                next=f"--{modality} STORE",
            )
        self.out_dim = width
        self.project = TokenProjection({modality: dims[modality]}, width, input_norm)
        self.hidden = Hidden(width, width, dropout)

    def forward(self, features: Features) -> Tensor:
        [p_BK] = self.project.pooled(features)
        f_BK: Tensor = self.hidden(p_BK)
        return f_BK


class TextOnly(OneModality):
    """The text features alone, pooled.

    Args:
        dims: modality -> width of its features, "text" among them.
        width: width of the projection and of the fused vector.
        dropout: on the fused vector.
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self, dims: Mapping[str, int], *, width: int = 256, dropout: float = 0.0, input_norm: str = "layer"
    ) -> None:
        super().__init__(dims, "text", width=width, dropout=dropout, input_norm=input_norm)
