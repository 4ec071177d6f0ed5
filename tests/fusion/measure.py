"""What a fusion costs, measured: its parameters counted, its products by torch's counter, what autograd keeps by hooks.

Shapes: B batch, T tokens of one modality, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from umecache.fusion import pairs_tiled
from umecache.fusion.base import Fusion
from umecache.fusion.cost import Figures

Batch = dict[str, tuple[Tensor, Tensor]]


def measure(fusion: Fusion, one: Batch, three: Batch) -> Figures:
    """Parameters, multiply-adds and kept floats, the last two per question, from batches of one and three questions."""
    # What belongs to the batch as a whole (weights that are joined, say) falls out of the difference.
    kept = (kept_floats(fusion, three) - kept_floats(fusion, one)) // 2
    return Figures(sum(p.numel() for p in fusion.parameters()), macs_of(fusion, one), kept)


def macs_of(fusion: Fusion, batch: Batch) -> int:
    """Multiply-adds of one forward pass: matrix products, and C_i * C_j of the pair stage (`addcmul`)."""
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.addcmul: lambda shape, *_, out_shape, **__: 2 * prod(out_shape)}
    )
    # The explicit form of attention, whose products are counted; tiles of one pair, so that no pair outside the set
    # is computed along with others.
    with sdpa_kernel(SDPBackend.MATH), tiles_of_one_pair(), counter:
        fusion(batch)
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return int(flops // 2)


def kept_floats(fusion: Fusion, batch: Batch) -> int:
    """Floats that the forward pass keeps for the backward pass, each storage once, without weights and features."""
    known = {t.untyped_storage().data_ptr() for t in (*fusion.parameters(), *fusion.buffers())}
    known |= {tokens.untyped_storage().data_ptr() for tokens, _ in batch.values()}
    kept: dict[int, Tensor] = {}  # holding them keeps their addresses from being used again

    def pack(x: Tensor) -> Tensor:
        if x.is_floating_point() or x.is_complex():
            kept.setdefault(x.untyped_storage().data_ptr(), x)
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        fusion(batch)
    return sum(x.untyped_storage().nbytes() // 4 for address, x in kept.items() if address not in known)


@contextmanager
def tiles_of_one_pair() -> Iterator[None]:
    """The pair stage goes pair by pair."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UMECACHE_PAIRS", "tiled")
        patch.setattr(pairs_tiled, "CPU_TILE", 1)
        yield
