"""The contract of a fusion method: token-level features of any number of modalities in, one vector out.

    fusion = load_fusion("ume")(dims={"text": 384, "image": 1280}, width=256)
    f_BF = fusion({"text": (text_BTD, text_mask_BT), "image": (image_BTD, image_mask_BT)})   # F = fusion.out_dim

Shapes: B batch, T tokens of one modality, D width of one modality's features, N tokens of all modalities together,
K the common width that modalities are projected to, F width of the fused vector.

A mask is True at real tokens. A record may have no real token at all (its input could not be read): a fusion then
still returns finite numbers. What stands at padded tokens never matters, not even if it is NaN.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from torch import Tensor, nn

Features = Mapping[str, tuple[Tensor, Tensor]]
"""Modality -> (tokens [B, T, D] float, mask [B, T] bool). A fusion reads them in the order of its `dims`."""


class SharedFeatures(dict[str, tuple[Tensor, Tensor]]):
    """A batch that several heads read one after another: what they all compute alike, without weights, is computed by
    the first of them (the norm of every token, the mean over tokens: nearly all the work of a pooled head).
    """

    def __init__(self, features: Features) -> None:
        super().__init__(features)
        self._made: dict[tuple[object, ...], Tensor] = {}

    def once(self, key: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
        """`make()`, which must not depend on anything but these features and `key`."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def once(features: Features, key: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
    """`make()`, shared among heads where the features are shared."""
    return features.once(key, make) if isinstance(features, SharedFeatures) else make()


class Fusion(nn.Module, ABC):
    """A method that joins modalities. Constructor: `(dims, *, width, dropout, **method_args)`, keyword arguments
    typed and documented, so that `--method-arg KEY=VALUE` can set them and `umecache methods` can list them.

    Attributes:
        out_dim: F, the width of the fused vector.
    """

    out_dim: int

    @abstractmethod
    def forward(self, features: Features) -> Tensor:
        """Fuse a batch to [B, F]."""

    def facts(self) -> dict[str, float]:
        """Numbers about the last batch that are worth a look (say the entropy of attention weights); may be empty."""
        return {}

    def token_weights(self, features: Features) -> dict[str, Tensor] | None:
        """How much each token counted, modality -> [B, T], where a method has such weights (they sum to 1 over all
        tokens of a sample, and are 0 at padded ones); None where it has none. No gradient."""
        return None

    def attention_weights(self, features: Features) -> dict[str, Tensor] | None:
        """How much of the method's attention fell on each token, averaged over layers, heads and those who attend:
        modality -> [B, T], summing to 1 over all tokens of a sample, 0 at padded ones; None where nothing attends. No
        gradient."""
        return None

    def joint_tokens(self, features: Features) -> dict[str, tuple[Tensor, Tensor]] | None:
        """Each modality's own tokens behind the stage in which modalities see one another, of one width: modality ->
        (tokens [B, T, K], mask [B, T]); None where they meet as pooled vectors or inside other tokens (latents)."""
        return None
