"""Deeper LSTM Q + norm I, the baseline of the VQA paper: text state times l2-normalised image vector.

Antol et al., VQA: Visual Question Answering (ICCV 2015, arXiv:1505.00468), as the authors' code and the thesis have it.

    f = tanh(W_q q + b_q) * tanh(W_i v / |v| + b_i)        q: last state of the text, v: mean of the image's tokens

The source's W map to 1,024 numbers (`--width 1024`), q are the last hidden and cell states of a two-layer LSTM, v is
VGG's fc7 (one vector: an image store of one token gives just that). Adapted here: any token stores, their tokens put on
one scale first (`input_norm`), and further modalities, each treated as the image. The classifier is the head that every
method has; the paper's text speaks of two hidden layers in it, the authors' code has none.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import TokenProjection, check_choice, check_sizes, guide_of, masked_mean, multiply


def last_token(x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """The last real token of each sample, [B, D]; zero where there is none."""
    last_BT = mask_BT & (mask_BT.flip(1).cumsum(1).flip(1) == 1)
    return (x_BTD * last_BT[..., None]).sum(1)


class LSTMQNormI(Fusion):
    """Text state and normalised image vector, mapped and multiplied.

    Args:
        dims: modality -> width of its features; "text" (else the first) is the question.
        width: width of the maps and of the fused vector (1,024 in the paper).
        dropout: on the fused vector.
        text_state: the question's "last" real token (an LSTM's final state), or the "mean" of its tokens.
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        text_state: str = "last",
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width
        self.pool_text = (
            last_token if check_choice("text_state", text_state, ("last", "mean")) == "last" else masked_mean
        )
        self.guide = guide_of(dims)
        self.project = TokenProjection(dims, width, input_norm)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        mapped = []
        for number, (name, linear) in enumerate(zip(self.project.modalities, self.project.maps, strict=True)):
            x_BTD, mask_BT = self.project.read(features, name)
            if number == self.guide:
                state_BD = self.pool_text(x_BTD, mask_BT)
            else:
                state_BD = F.normalize(masked_mean(x_BTD, mask_BT), dim=-1)
            mapped.append(linear(state_BD).tanh())
        f_BK: Tensor = self.dropout(multiply(mapped))
        return f_BK
