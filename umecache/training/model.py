"""A fusion with its classifier.

    model = build_model("ume", dims={"text": 384, "image": 1280}, classes=1000, width=256, dropout=0.1)
    logits_BC = model(features)

Shapes: B batch, F width of the fused vector, C answer classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from umecache.encoders.base import Json
from umecache.errors import UsageError
from umecache.fusion.base import Features, Fusion
from umecache.fusion.layer_mix import LayerMix
from umecache.fusion.naming import MARK
from umecache.fusion.registry import METHODS, build_fusion, load_fusion

OWN_FLAGS = frozenset({"width", "dropout"})
"""Options of a fusion that are flags of their own, the same for every method of a run."""


class FusionClassifier(nn.Module):
    """A fusion and one linear layer on its vector. Dropout on that vector is the fusion's own.

    Args:
        fusion: any method; its `out_dim` is F.
        classes: C, answers in the vocabulary.
        mix: joins the layers of a modality before the fusion, where it is given several.
    """

    def __init__(self, fusion: Fusion, classes: int, mix: LayerMix | None = None) -> None:
        super().__init__()
        self.fusion = fusion
        self.mix = mix
        self.classifier = nn.Linear(fusion.out_dim, classes)

    def forward(self, features: Features) -> Tensor:
        """Logits [B, C]."""
        mixed = features if self.mix is None else self.mix(features)
        logits_BC: Tensor = self.classifier(self.fusion(mixed))
        return logits_BC

    def facts(self) -> dict[str, float]:
        """The fusion's own (`Fusion.facts`), and each layer's share of a mix."""
        shares = {} if self.mix is None else self.mix.weights()
        return {**self.fusion.facts(), **{f"share of {name}": share for name, share in shares.items()}}


def build_model(
    method: str,
    *,
    dims: Mapping[str, int],
    classes: int,
    width: int,
    dropout: float,
    method_args: Mapping[str, Json] | None = None,
) -> FusionClassifier:
    """A freshly initialised head from torch's current random state.

    Args:
        dims: name of features -> width; features called `text@-1`, `text@-4` are layers of `text`, mixed before the
            fusion.

    Raises:
        UnknownName: no such method.
        UsageError: method arguments that the method does not take; layers of several widths.
    """
    mix = LayerMix(dims) if any(MARK in name for name in dims) else None
    seen = dict(dims) if mix is None else mix.dims
    fusion = build_fusion(method, seen, width=width, dropout=dropout, **(method_args or {}))
    return FusionClassifier(fusion, classes, mix)


def method_arguments(method: str) -> frozenset[str]:
    """The names that `--method-arg` may set for a method."""
    parameters = inspect.signature(load_fusion(method)).parameters.values()
    return frozenset(each.name for each in parameters if each.kind is each.KEYWORD_ONLY) - OWN_FLAGS


def modalities_of(methods: Sequence[str]) -> tuple[str, ...]:
    """Which of text and image the methods look at: a control alone needs no store of the other."""
    looked_at: set[str] = set()
    for method in methods:
        entry = METHODS.get(method)
        looked_at.update(entry.uses if entry is not None and entry.uses is not None else ("text", "image"))
    return tuple(name for name in ("text", "image") if name in looked_at)


def share_arguments(methods: Sequence[str], said: Mapping[str, Json]) -> dict[str, dict[str, Json]]:
    """Who gets which `--method-arg`: KEY goes to every method that takes it, METHOD.KEY to that one, and wins.

    Raises:
        UsageError: an argument that no method of the list takes; it would be dropped silently otherwise.
    """
    shared: dict[str, dict[str, Json]] = {method: {} for method in methods}
    takes = {method: method_arguments(method) for method in methods}
    for key, value in sorted(said.items(), key=lambda item: "." in item[0]):
        owner, dot, name = key.rpartition(".")
        takers = [method for method in methods if name in takes[method] and (not dot or method == owner)]
        if not takers:
            known = sorted(set().union(*takes.values()))
            raise UsageError(
                f"--method-arg {key}: none of {', '.join(methods)} takes it.",
                why=f"Together they take: {', '.join(known)}." if known else "They take none.",
                next=" ".join(["umecache methods", *(method for method in methods if method in METHODS)]),
            )
        for method in takers:
            shared[method][name] = value
    return shared
