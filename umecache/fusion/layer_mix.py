"""A learned mix of layers: ELMo's scalar mix (Peters et al., NAACL 2018, arXiv:1802.05365, equation 1).

    h = γ Σ_l softmax(s)_l h_l        h_l [B, T, D] of layer l; s, γ learned      -> h [B, T, D]

It stands before any fusion method, so every method has it: features called `text@-1` and `text@-4` become `text`. At
the start all layers weigh the same and γ is 1.

Shapes: B batch, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from umecache.errors import UsageError
from umecache.fusion.base import Features
from umecache.fusion.naming import modality_of


def layers_of(names: Sequence[str]) -> dict[str, list[str]]:
    """Modality -> the names of its layers' features, in their order."""
    layers: dict[str, list[str]] = {}
    for name in names:
        layers.setdefault(modality_of(name), []).append(name)
    return layers


class LayerMix(nn.Module):
    """Mixes what is given several layers of; what is given one of passes as it is.

    Args:
        dims: name of features -> width, as the stores have them.

    Attributes:
        dims: modality -> width, as the fusion sees them.

    Raises:
        UsageError: layers of one modality that differ in width.
    """

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__()
        self._layers = layers_of(list(dims))
        self.dims: dict[str, int] = {}
        for modality, names in self._layers.items():
            widths = {dims[name] for name in names}
            if len(widths) > 1:
                raise UsageError(
                    f"Layers {', '.join(names)} can't be mixed: they are {', '.join(map(str, sorted(widths)))} wide.",
                    next=f"mix layers of one width, or give one as --features NAME={modality}",
                )
            self.dims[modality] = widths.pop()
        mixed = {modality: len(names) for modality, names in self._layers.items() if len(names) > 1}
        self.score = nn.ParameterDict({modality: nn.Parameter(torch.zeros(n)) for modality, n in mixed.items()})
        self.scale = nn.ParameterDict({modality: nn.Parameter(torch.ones(())) for modality in mixed})

    def forward(self, features: Features) -> dict[str, tuple[Tensor, Tensor]]:
        """Features by modality. A token is real where it is so in every layer."""
        out: dict[str, tuple[Tensor, Tensor]] = {}
        for modality, names in self._layers.items():
            if modality not in self.score:
                out[modality] = features[names[0]]
                continue
            weight_L = self.score[modality].softmax(0) * self.scale[modality]
            mask_BT = torch.stack([features[name][1] for name in names]).all(0)
            mixed_BTD = sum(weight * features[name][0] for weight, name in zip(weight_L, names, strict=True))
            assert isinstance(mixed_BTD, Tensor)
            out[modality] = mixed_BTD, mask_BT
        return out

    def weights(self) -> dict[str, float]:
        """Name of features -> its share of the mix; empty where nothing is mixed."""
        return {
            name: float(share)
            for modality in self.score
            for name, share in zip(self._layers[modality], self.score[modality].detach().softmax(0), strict=True)
        }
