"""Control: the image alone. What it reaches, no fusion has to read the question for.

The "image only" rows of Antol et al., VQA (ICCV 2015, arXiv:1505.00468); pooled tokens and one hidden layer, as in
`concat`.

    f = gelu(W p_image + b)        p_image = mean over real tokens(H_image P_image)
"""

from __future__ import annotations

from collections.abc import Mapping

from umecache.fusion.text_only import OneModality


class ImageOnly(OneModality):
    """The image features alone, pooled.

    Args:
        dims: modality -> width of its features, "image" among them.
        width: width of the projection and of the fused vector.
        dropout: on the fused vector.
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self, dims: Mapping[str, int], *, width: int = 256, dropout: float = 0.0, input_norm: str = "layer"
    ) -> None:
        super().__init__(dims, "image", width=width, dropout=dropout, input_norm=input_norm)
