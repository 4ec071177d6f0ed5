"""The pieces that fusion methods share: projection, pooling, concatenation along the sequence, attention.

    project = TokenProjection({"text": 384, "image": 1280}, width=256)
    x_BNK, mask_BN, counts = join(project(features))

Shapes: B batch, T tokens of one modality, D width of its features, N tokens of all modalities together, K the common
width, H heads, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from umecache.errors import UsageError
from umecache.fusion.base import Features, once


def check_choice(option: str, value: Any, choices: Sequence[str]) -> str:
    """`value` if it is one of `choices`, else a `UsageError` that lists them."""
    if value not in choices:
        said = ", ".join(choices)
        raise UsageError(f"{option} is {value!r}; it can be {said}.", next=f"--method-arg {option}={choices[0]}")
    return str(value)


def check_sizes(width: int, dropout: float) -> None:
    """Refuse widths and dropout rates that mean nothing."""
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise UsageError(f"width is {width!r}; it is a whole number from 1 up.", next="--method-arg width=256")
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise UsageError(f"dropout is {dropout!r}; it lies in [0, 1).", next="--method-arg dropout=0.1")


def check_number(option: str, value: Any, least: int = 1) -> int:
    """`value` if it is a whole number from `least` up, else a `UsageError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(
            f"{option} is {value!r}; it is a whole number from {least} up.", next=f"--method-arg {option}={least}"
        )
    return value


def check_modalities(method: str, dims: Mapping[str, int], most: int) -> None:
    """Refuse what a method for exactly two, or for two up to `most`, modalities can't join."""
    if not 2 <= len(dims) <= most:
        count = "exactly 2" if most == 2 else f"2 to {most}"
        raise UsageError(
            f"The method {method!r} joins {count} modalities, not {len(dims)}.",
            why=f"Given: {', '.join(dims) or 'none'}.",
            next="umecache methods",
        )


def guide_of(dims: Mapping[str, int]) -> int:
    """Which modality asks, where a method treats one unlike the others: the text, else the first. Its number."""
    return list(dims).index("text") if "text" in dims else 0


def zero_padding(x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Padded tokens set to zero, whatever stood there."""
    if mask_BT.device.type == "cpu" and bool(mask_BT.all()):
        return x_BTD  # spares a copy; on other devices the question would cost more than the copy
    return x_BTD.masked_fill(~mask_BT[..., None], 0)


def masked_mean(x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over real tokens, [B, D]; zero where a record has none."""
    return zero_padding(x_BTD, mask_BT).sum(1) / mask_BT.sum(1, keepdim=True).clamp(min=1).to(x_BTD.dtype)


def masked_softmax(logits_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """Softmax over the last dimension where the mask is True; 0 elsewhere, and everywhere if it is True nowhere."""
    seen_BN = mask_BN | ~mask_BN.any(-1, keepdim=True)
    return logits_BN.masked_fill(~seen_BN, -torch.inf).softmax(-1).masked_fill(~mask_BN, 0)


def multiply(parts: Sequence[Tensor]) -> Tensor:
    """The element-wise product of all of them."""
    return reduce(torch.mul, parts)


def power_normalise(x_BD: Tensor) -> Tensor:
    """sign(x) sqrt(|x|), then divided by its l2 norm over the last dimension, as bilinear methods do.

    The root has no finite slope at 0: x / sqrt(|x| + 1e-8) has, and leaves a 0 with a rounding error near 0.
    """
    return F.normalize(x_BD / (x_BD.abs() + 1e-8).sqrt(), dim=-1)


def read_tokens(features: Features, name: str, dtype: torch.dtype, normed: bool) -> tuple[Tensor, Tensor]:
    """Tokens [B, T, D] in the weights' dtype, padding zero, each token on one scale if `normed`; and their mask."""
    tokens_BTD, mask_BT = features[name]

    def read() -> Tensor:
        # Zero first: what stands at a padded token may be NaN, and NaN times a mask is NaN.
        x_BTD = zero_padding(tokens_BTD, mask_BT).to(dtype)
        # No scale and shift of its own: the map that follows has them already.
        return F.layer_norm(x_BTD, x_BTD.shape[-1:]) if normed else x_BTD

    return once(features, ("tokens", name, normed, dtype), read), mask_BT


class TokenProjection(nn.Module):
    """H_m P_m for every modality m: optional LayerNorm over each token's features, then a linear map to `width`.

    Args:
        dims: modality -> width D of its features; the order of modalities is taken from here.
        width: K.
        input_norm: "layer" puts every token on one scale before its projection (encoders differ by two orders of
            magnitude); "none" is the source's drawing.
    """

    def __init__(self, dims: Mapping[str, int], width: int, input_norm: str = "layer") -> None:
        super().__init__()
        check_choice("input_norm", input_norm, ("layer", "none"))
        self.modalities = tuple(dims)
        if not self.modalities:
            raise UsageError("A fusion needs at least one modality.", next="--features NAME=STORE")
        self.normed = input_norm == "layer"
        # A list, not a dict by name: a modality may bear any name, a parameter may not.
        self.maps = nn.ModuleList(nn.Linear(dim, width) for dim in dims.values())

    def forward(self, features: Features) -> list[tuple[Tensor, Tensor]]:
        """[(tokens [B, T_m, K], mask [B, T_m])] in the order of `dims`; padded tokens become zero."""
        projected = []
        for name, linear in zip(self.modalities, self.maps, strict=True):
            x_BTD, mask_BT = self.read(features, name)
            projected.append((zero_padding(linear(x_BTD), mask_BT), mask_BT))
        return projected

    def pooled(self, features: Features, *, bias_if_empty: bool = False) -> list[Tensor]:
        """mean over real tokens(H_m P_m), [B, K], for every modality in the order of `dims`.

        The mean is taken before the map, which commutes with it: the same up to rounding, T times cheaper, and nothing
        per token is kept for the backward pass.

        Args:
            features: modality -> (tokens, mask).
            bias_if_empty: a record without any token of a modality gives the map's bias in place of zero, so that
                methods that multiply don't lose the other modalities of such a record.
        """
        means = []
        for name, linear in zip(self.modalities, self.maps, strict=True):
            x_BTD, mask_BT = self.read(features, name)
            key = ("mean", name, self.normed, x_BTD.dtype)
            p_BK = linear(once(features, key, partial(masked_mean, x_BTD, mask_BT)))
            means.append(p_BK if bias_if_empty else p_BK.masked_fill(~mask_BT.any(1, keepdim=True), 0))
        return means

    def read(self, features: Features, name: str) -> tuple[Tensor, Tensor]:
        """The tokens of a modality as its map sees them, [B, T, D], and their mask."""
        return read_tokens(features, name, next(self.maps.parameters()).dtype, self.normed)


def split(joined: Tensor, names: Sequence[str], counts: Sequence[int]) -> dict[str, Tensor]:
    """What `join` put together, [B, N] or [B, N, K], apart again by modality."""
    return dict(zip(names, torch.split(joined, list(counts), dim=1), strict=True))


def received(logits_BHTN: Tensor, asking_BT: Tensor, mask_BN: Tensor) -> Tensor:
    """How much attention each token gets, [B, N]: softmax over real tokens, then the mean over heads and real askers.

    Args:
        logits_BHTN: query times key, scaled.
        asking_BT: which queries are real.
        mask_BN: which tokens attended to are.
    """
    a_BTN = masked_softmax(logits_BHTN, mask_BN[:, None, None].expand_as(logits_BHTN)).mean(1)
    return masked_mean(a_BTN, asking_BT)


def join(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """concat_m along the sequence: x [B, N, K], mask [B, N], and the number of (padded) tokens of each modality."""
    x_BNK = torch.cat([tokens for tokens, _ in parts], dim=1)
    mask_BN = torch.cat([mask for _, mask in parts], dim=1)
    return x_BNK, mask_BN, tuple(tokens.shape[1] for tokens, _ in parts)


class CrossModalAttention(nn.Module):
    """Z = softmax(Q K^T / sqrt(D)) V over the tokens of all modalities together, padded keys masked.

    Args:
        width: D of the equation.
        heads: the width is split among so many heads (1: the equation as printed).
        residual: LayerNorm(X + dropout(Z)) in place of Z; not in the source's drawing.
        dropout: on Z inside the residual.
    """

    def __init__(self, width: int, *, heads: int = 1, residual: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1 or width % heads:
            raise UsageError(f"heads is {heads!r}; it must divide the width {width}.", next="--method-arg heads=1")
        if not isinstance(residual, bool):
            raise UsageError(f"residual is {residual!r}; it is true or false.", next="--method-arg residual=true")
        self.heads = heads
        self.query = nn.Linear(width, width)
        # A bias on the keys adds the same number to every logit of a query: softmax drops it, no gradient reaches it.
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width) if residual else None
        self.dropout = nn.Dropout(dropout if residual else 0.0)

    def _heads(self, y_BND: Tensor) -> Tensor:
        """[B, H, N, D/H]."""
        return y_BND.view(*y_BND.shape[:2], self.heads, y_BND.shape[2] // self.heads).transpose(1, 2)

    @torch.no_grad()
    def weights(self, x_BND: Tensor, mask_BN: Tensor) -> Tensor:
        """How much attention each token gets from all of them, [B, N]; sums to 1."""
        q, k = self._heads(self.query(x_BND)), self._heads(self.key(x_BND))
        return received(q @ k.mT * q.shape[-1] ** -0.5, mask_BN, mask_BN)

    def forward(self, x_BND: Tensor, mask_BN: Tensor) -> Tensor:
        """[B, N, D]; padded tokens are zero."""
        # A record without any real token would ask softmax for 0/0: let it see its zeros; they are masked below.
        keys_BN = mask_BN | ~mask_BN.any(1, keepdim=True)
        q, k, v = (self._heads(map_(x_BND)) for map_ in (self.query, self.key, self.value))
        z_BHNE = F.scaled_dot_product_attention(q, k, v, attn_mask=keys_BN[:, None, None, :])
        z_BND = z_BHNE.transpose(1, 2).flatten(2)
        if self.norm is not None:
            z_BND = self.norm(x_BND + self.dropout(z_BND))
        return zero_padding(z_BND, mask_BN)


class Hidden(nn.Module):
    """One hidden layer for methods that pool before they join: dropout(act(Linear(x))), [B, in] -> [B, width]."""

    def __init__(self, in_dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BD: Tensor) -> Tensor:
        h_BK: Tensor = self.dropout(F.gelu(self.linear(x_BD)))
        return h_BK
