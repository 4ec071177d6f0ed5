"""Q-Former pooling: learnt queries that attend together with the question, and read the image.

Li et al., BLIP-2 (ICML 2023, arXiv:2301.12597), its querying transformer.

    L times:  [Q; T] = LN([Q; T] + MHA([Q; T], [Q; T]))          queries and question see one another
              Q = LN(Q + MHA(Q, Y))                              queries alone look at the image
              Q = LN(Q + FFN_q(Q)),  T = LN(T + FFN_t(T))        T of the last layer is not needed, nor made
    f = mean over queries(Q)

T and Y start as H_m P_m of the text and of all other modalities together. BLIP-2 starts from BERT, has cross-attention
in every other layer and hands all queries to a language model; here it starts from nothing, has it in every layer, and
the queries are averaged. 32 queries and 12 layers in the paper.

Shapes: B batch, S queries, T question tokens, N tokens of all but the text, K width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.blocks import FeedForward, MultiHead, looks, shares
from umecache.fusion.layers import TokenProjection, check_number, check_sizes, guide_of, join


class QLayer(nn.Module):
    """One layer; `last` leaves out what only a further layer would read."""

    def __init__(self, width: int, heads: int, expand: int, dropout: float, *, last: bool) -> None:
        super().__init__()
        self.together, self.to_image = MultiHead(width, heads), MultiHead(width, heads)
        self.feed_query = FeedForward(width, expand)
        self.feed_text = None if last else FeedForward(width, expand)
        self.norm_together, self.norm_image, self.norm_query = (nn.LayerNorm(width) for _ in range(3))
        self.norm_text = None if last else nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, q_BSK: Tensor, t_BTK: Tensor, both_mask: Tensor, y_BNK: Tensor, y_mask_BN: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New queries and question tokens."""
        count = q_BSK.shape[1]
        both = torch.cat((q_BSK, t_BTK), 1)
        asking = q_BSK if self.feed_text is None else both
        z = self.norm_together(asking + self.dropout(self.together(asking, both, both_mask)))
        q_BSK, t_BTK = z[:, :count], z[:, count:]
        q_BSK = self.norm_image(q_BSK + self.dropout(self.to_image(q_BSK, y_BNK, y_mask_BN)))
        q_BSK = self.norm_query(q_BSK + self.dropout(self.feed_query(q_BSK)))
        if self.feed_text is not None and self.norm_text is not None:
            t_BTK = self.norm_text(t_BTK + self.dropout(self.feed_text(t_BTK)))
        return q_BSK, t_BTK


class QFormer(Fusion):
    """Queries that read the question and the other modalities, averaged.

    Args:
        dims: modality -> width of its features; "text" (else the first) is the question.
        width: K, of tokens, queries and of the fused vector.
        dropout: on the fused vector and inside the residuals.
        queries: S, learnt vectors (32 in the paper).
        layers: L (12 in the paper).
        heads: attention heads; they divide the width.
        expand: the feed-forward map is so many times as wide as the tokens (4 in the paper).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        queries: int = 32,
        layers: int = 2,
        heads: int = 4,
        expand: int = 2,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        self.out_dim = width
        self.guide = guide_of(dims)
        self.project = TokenProjection(dims, width, input_norm)
        self.queries_SK = nn.Parameter(0.02 * torch.randn(check_number("queries", queries), width))
        last = check_number("layers", layers) - 1
        self.layers = nn.ModuleList(
            QLayer(width, heads, expand, dropout, last=number == last) for number in range(layers)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        parts = self.project(features)
        t_BTK, t_mask_BT = parts.pop(self.guide)
        y_BNK, y_mask_BN, _ = join(parts)
        q_BSK = self.queries_SK.expand(len(t_BTK), -1, -1)
        both_mask = F.pad(t_mask_BT, (q_BSK.shape[1], 0), value=True)  # queries are always there
        for layer in self.layers:
            q_BSK, t_BTK = layer(q_BSK, t_BTK, both_mask, y_BNK, y_mask_BN)
        f_BK: Tensor = self.dropout(q_BSK.mean(1))
        return f_BK

    def attention_weights(self, features: Features) -> dict[str, Tensor]:
        """Attention that the queries gave each token, of the question and of the rest; what they give one another is
        left out, and so is what the question's tokens give."""
        names, count = self.project.modalities, len(self.queries_SK)
        masks = [features[name][1] for name in names]
        found = [torch.zeros_like(mask_BT, dtype=torch.float32) for mask_BT in masks]
        others = [number for number in range(len(names)) if number != self.guide]
        for number, look in enumerate(looks(self, lambda: self(features))):
            asking_BT = (torch.arange(look.asking.shape[1], device=look.asking.device) < count).expand(
                len(look.asking), -1
            )
            given_BN = look.weights(asking_BT)
            if number % 2 == 0:  # with the question; else with the rest
                found[self.guide] += given_BN[:, count:]
            else:
                parts = torch.split(given_BN, [masks[other].shape[1] for other in others], dim=1)
                for other, part_BT in zip(others, parts, strict=True):
                    found[other] += part_BT
        return shares(found, names)
