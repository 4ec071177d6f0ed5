"""MCB: compact bilinear pooling, the outer product hashed to a vector by count sketches and a convolution.

Fukui et al., Multimodal Compact Bilinear Pooling for Visual Question Answering and Visual Grounding (EMNLP 2016,
arXiv:1606.01847); count sketches of outer products by FFT: Pham and Pagh (KDD 2013).

    psi_m = sum_i s_m(i) x_m,i e_h_m(i)    h_m: random places, s_m: random signs, drawn once and never trained
    z = psi_1 (*) ... (*) psi_M            circular convolution, as a product of Fourier transforms
    f = W (u / |u|) + b,  u = sign(z) sqrt|z|

which is the count sketch of x_1 (x) ... (x) x_M. x_m is the mean of modality m's tokens. In the paper z has 16,000
numbers and the classifier stands on it; here W leads to f, and the head from there. A record that lacks a modality
gives z = 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from umecache.fusion.base import Features, Fusion
from umecache.fusion.layers import (
    check_choice,
    check_number,
    check_sizes,
    masked_mean,
    multiply,
    power_normalise,
    read_tokens,
)


class CountSketch(nn.Module):
    """psi [B, size] of x [B, D]; places and signs are saved with the weights."""

    places: Tensor
    signs: Tensor

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("places", torch.randint(size, (dim,)))
        self.register_buffer("signs", 2.0 * torch.randint(2, (dim,)) - 1)

    def forward(self, x_BD: Tensor) -> Tensor:
        return x_BD.new_zeros(len(x_BD), self.size).index_add(1, self.places, x_BD * self.signs.to(x_BD.dtype))


class MCB(Fusion):
    """Count sketches of the modalities' means, convolved, normalised, mapped to the width.

    Args:
        dims: modality -> width of its features.
        width: of the fused vector.
        dropout: on the fused vector.
        sketch: numbers of each sketch (16,000 in the paper).
        input_norm: LayerNorm on every input token ("layer"), or nothing ("none").
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 256,
        dropout: float = 0.0,
        sketch: int = 4096,
        input_norm: str = "layer",
    ) -> None:
        super().__init__()
        check_sizes(width, dropout)
        check_choice("input_norm", input_norm, ("layer", "none"))
        self.out_dim = width
        self.normed = input_norm == "layer"
        self.modalities = tuple(dims)
        self.size = check_number("sketch", sketch)
        self.sketches = nn.ModuleList(CountSketch(dim, sketch) for dim in dims.values())
        self.out = nn.Linear(sketch, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        spectra = []
        for name, sketch in zip(self.modalities, self.sketches, strict=True):
            x_BTD, mask_BT = read_tokens(features, name, torch.float32, self.normed)
            # In float64: the root makes 1e-4 of a place that should be empty and holds a rounding error of 1e-8.
            spectra.append(torch.fft.rfft(sketch(masked_mean(x_BTD, mask_BT).double())))
        z_BS = torch.fft.irfft(multiply(spectra), n=self.size)
        f_BK: Tensor = self.dropout(self.out(power_normalise(z_BS).to(self.out.weight.dtype)))
        return f_BK
