"""Transformer pieces for the methods that are built of them (MCAN, MBT, ViLBERT, Perceiver, Q-Former).

Scaled dot-product attention with several heads and a feed-forward map of each token, after Vaswani et al. (NeurIPS
2017, arXiv:1706.03762); where residuals and LayerNorm stand is the methods' own matter.

Shapes: B batch, T queries, N tokens attended to, K width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from umecache.errors import UsageError
from umecache.fusion.layers import check_number, received


class MultiHead(nn.Module):
    """W_o [head_1; ...; head_H], head_h = softmax(Q_h K_h^T / sqrt(K / H)) V_h, padded tokens not attended to.

    A record without any token to attend to gets zeros.

    Args:
        width: K.
        heads: H; must divide it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % check_number("heads", heads):
            raise UsageError(f"heads is {heads!r}; it must divide the width {width}.", next="--method-arg heads=1")
        self.heads, self.size = heads, width // heads
        self.query = nn.Linear(width, width)
        # A bias on the keys adds the same number to every logit of a query: softmax drops it, no gradient reaches it.
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    @torch.no_grad()
    def weights(self, x_BTK: Tensor, seen_BNK: Tensor, mask_BN: Tensor, asking_BT: Tensor) -> Tensor:
        """How much attention each token of `seen` gets from the real tokens of x, [B, N]; sums to 1."""
        q, k = (
            map_(tokens).view(*tokens.shape[:2], self.heads, self.size).transpose(1, 2)
            for map_, tokens in ((self.query, x_BTK), (self.key, seen_BNK))
        )
        return received(q @ k.mT * self.size**-0.5, asking_BT, mask_BN)

    def forward(self, x_BTK: Tensor, seen_BNK: Tensor, mask_BN: Tensor) -> Tensor:
        """[B, T, K]: each token of x looks at the real tokens of `seen`."""
        if not seen_BNK.shape[1]:
            return torch.zeros_like(x_BTK)
        some_B11 = mask_BN.any(1)[:, None, None]
        q, k, v = (
            map_(tokens).view(*tokens.shape[:2], self.heads, self.size).transpose(1, 2)  # [B, H, T or N, K / H]
            for map_, tokens in ((self.query, x_BTK), (self.key, seen_BNK), (self.value, seen_BNK))
        )
        allowed_B11N = (mask_BN | ~some_B11[:, 0])[:, None, None]
        z_BHTE = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed_B11N)
        z_BTK: Tensor = self.out(z_BHTE.transpose(1, 2).flatten(2))
        return z_BTK.masked_fill(~some_B11, 0)


@dataclass(frozen=True, slots=True)
class Looked:
    """One call of a `MultiHead`.

    Attributes:
        asking: x, what asked [B, T, K].
        seen: what it looked at [B, N, K].
        real: which of that is no padding [B, N].
    """

    layer: MultiHead
    asking: Tensor
    seen: Tensor
    real: Tensor

    def weights(self, asking_BT: Tensor) -> Tensor:
        """How much attention each token seen gets from those of x that `asking_BT` names, [B, N]; zeros where there
        is nothing."""
        return self.layer.weights(self.asking, self.seen, self.real, asking_BT)


@torch.no_grad()
def looks(fusion: nn.Module, run: Callable[[], object]) -> list[Looked]:
    """The calls of every `MultiHead` inside `fusion` while `run()` runs, in order: a method's attention is read off its
    own forward pass, and can't part from it."""
    calls: list[Looked] = []

    def note(layer: nn.Module, given: tuple[Tensor, Tensor, Tensor]) -> None:
        calls.append(Looked(cast(MultiHead, layer), *given))

    hooks = [each.register_forward_pre_hook(note) for each in fusion.modules() if isinstance(each, MultiHead)]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def shares(parts: Sequence[Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Weights [B, T] of each modality, over their sum of all tokens."""
    total_B1 = torch.stack([part_BT.sum(1, keepdim=True) for part_BT in parts]).sum(0)
    return {name: part_BT / total_B1.clamp(min=1e-12) for name, part_BT in zip(names, parts, strict=True)}


class FeedForward(nn.Module):
    """W_2 act(W_1 x), of each token.

    Args:
        width: of tokens.
        expand: the hidden layer is so many times as wide.
        activation: "relu" or "gelu".
    """

    def __init__(self, width: int, expand: int, activation: str = "gelu") -> None:
        super().__init__()
        self.up = nn.Linear(width, check_number("expand", expand) * width)
        self.down = nn.Linear(expand * width, width)
        self.act = nn.ReLU() if activation == "relu" else nn.GELU()

    def forward(self, x_BTK: Tensor) -> Tensor:
        y_BTK: Tensor = self.down(self.act(self.up(x_BTK)))
        return y_BTK


class PreNorm(nn.Module):
    """z + MHA(LN(z), LN(s)), then z + FFN(LN(z)); s = z, or with `cross` other tokens with a LayerNorm of their own.

    Args:
        width: of tokens.
        heads: attention heads.
        expand: of the feed-forward map.
        dropout: on what is added to z.
        cross: z looks at other tokens.
    """

    def __init__(self, width: int, heads: int, expand: int, dropout: float, *, cross: bool = False) -> None:
        super().__init__()
        self.attend, self.feed = MultiHead(width, heads), FeedForward(width, expand)
        self.norm_attend, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_seen = nn.LayerNorm(width) if cross else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, z_BTK: Tensor, mask_BN: Tensor, seen_BNK: Tensor | None = None) -> Tensor:
        """The new z [B, T, K]; the mask is that of the tokens looked at."""
        normed_BTK = self.norm_attend(z_BTK)
        if self.norm_seen is None:
            seen_BNK = normed_BTK
        else:
            assert seen_BNK is not None
            seen_BNK = self.norm_seen(seen_BNK)
        z_BTK = z_BTK + self.dropout(self.attend(normed_BTK, seen_BNK, mask_BN))
        out_BTK: Tensor = z_BTK + self.dropout(self.feed(self.norm_feed(z_BTK)))
        return out_BTK
