"""MCAN: self-attention over the question, then question-guided attention over the image, both reduced to one vector.

Yu et al., Deep Modular Co-Attention Networks for Visual Question Answering (CVPR 2019, arXiv:1906.10770),
encoder-decoder.

    X <- SA(X), L times;  Y <- SGA(Y, X), L times, X from the last SA
    SA(X): X = LN(X + MHA(X, X)), X = LN(X + FFN(X))    SGA(Y, X): Y = LN(Y + MHA(Y, Y)), Y = LN(Y + MHA(Y, X)), FFN
    x~ = sum_i a_i x_i,  a = softmax(MLP(X)),  y~ likewise
    f = LN(W_x x~ + W_y y~)

X and Y start as H_m P_m. A further modality is a further Y with layers of its own, and a further term of f. In the
paper L = 6, 8 heads, width 512, a feed-forward map 4 times as wide, f of 1,024 numbers.

Shapes: B batch, T tokens of one modality, K width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.blocks import FeedForward, MultiHead
from umecache.fusion.layers import TokenProjection, check_number, check_sizes, guide_of, masked_softmax


class Unit(nn.Module):
    """SA, or with `guided` SGA: attention to oneself, to the guide, a map of each token; each time LN(x + g(x))."""

    def __init__(self, width: int, heads: int, expand: int, dropout: float, *, guided: bool) -> None:
        super().__init__()
        self.to_self = MultiHead(width, heads)
        self.to_guide = MultiHead(width, heads) if guided else None
        self.feed = FeedForward(width, expand, "relu")
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if guided else 2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, y: Tensor, y_mask: Tensor, x: Tensor | None = None, x_mask: Tensor | None = None) -> Tensor:
        first, *middle, last = self.norms
        y = first(y + self.dropout(self.to_self(y, y, y_mask)))
        if self.to_guide is not None:
            assert x is not None and x_mask is not None
            y = middle[0](y + self.dropout(self.to_guide(y, x, x_mask)))
        out: Tensor = last(y + self.dropout(self.feed(y)))
        return out


class Reduce(nn.Module):
    """W sum_i a_i x_i, a = softmax(MLP(X)) over real tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # Softmax drops a constant: no bias on the score.
        self.score = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1, bias=False))
        self.out = nn.Linear(width, width)

    def weights(self, x_BTK: Tensor, mask_BT: Tensor) -> Tensor:
        """a, [B, T]."""
        return masked_softmax(self.score(x_BTK).squeeze(-1), mask_BT)

    def forward(self, x_BTK: Tensor, mask_BT: Tensor) -> Tensor:
        a_BT = self.weights(x_BTK, mask_BT)
        out_BK: Tensor = self.out((a_BT[:, None] @ x_BTK).squeeze(1))
        return out_BK


class MCAN(Fusion):
    """Stacked co-attention, attention pooling, a normalised sum.

    Args:
        dims: modality -> width of its features; "text" (else the first) is the question.
        width: K, of tokens and of the fused vector.
        dropout: on the fused vector and inside the residuals.
        layers: L (6 in the paper).
        heads: attention heads; they divide the width (8 in the paper).
        expand: the feed-forward map is so many times as wide as the tokens (4 in the paper).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        layers: int = 1,
        heads: int = 4,
        expand: int = 2,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        check_number("layers", layers)
        self.out_dim = width
        self.guide = guide_of(dims)
        self.project = TokenProjection(dims, width, input_norm)
        self.stacks = nn.ModuleList(
            nn.ModuleList(Unit(width, heads, expand, dropout, guided=number != self.guide) for _ in range(layers))
            for number in range(len(dims))
        )
        self.reduce = nn.ModuleList(Reduce(width) for _ in dims)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def streams(self, features: Features) -> list[tuple[Tensor, Tensor]]:
        """Each modality's tokens behind its stack, and their mask, in the order of `dims`."""
        parts = self.project(features)
        x_BTK, x_mask_BT = parts[self.guide]
        for unit in cast(nn.ModuleList, self.stacks[self.guide]):
            x_BTK = unit(x_BTK, x_mask_BT)
        out = []
        for number, (y_BTK, y_mask_BT) in enumerate(parts):
            if number == self.guide:
                y_BTK = x_BTK
            else:
                for unit in cast(nn.ModuleList, self.stacks[number]):
                    y_BTK = unit(y_BTK, y_mask_BT, x_BTK, x_mask_BT)
            out.append((y_BTK, y_mask_BT))
        return out

    def forward(self, features: Features) -> Tensor:
        streams = self.streams(features)
        reduced = [reduce(*stream) for reduce, stream in zip(self.reduce, streams, strict=True)]
        f_BK: Tensor = self.dropout(self.norm(torch.stack(reduced).sum(0)))
        return f_BK

    @torch.no_grad()
    def attention_weights(self, features: Features) -> dict[str, Tensor]:
        """The weights a of each modality's reduction, divided by the number of modalities that have a token."""
        streams = self.streams(features)
        a = [cast(Reduce, reduce).weights(*stream) for reduce, stream in zip(self.reduce, streams, strict=True)]
        some_B1 = torch.stack([mask_BT.any(1, keepdim=True) for _, mask_BT in streams]).sum(0).clamp(min=1)
        return {name: a_BT / some_B1 for name, a_BT in zip(self.project.modalities, a, strict=True)}

    def joint_tokens(self, features: Features) -> dict[str, tuple[Tensor, Tensor]]:
        """Tokens behind the stacks. The question's have seen no image: MCAN guides one way only."""
        return dict(zip(self.project.modalities, self.streams(features), strict=True))
