"""Layers in the name of a store: `minilm@-1,-4` is two stores of one model, mixed by `fusion/layer_mix.py`.

spread("text", "minilm@-1,-4")      # [("text@-1", "minilm", "-1"), ("text@-4", "minilm", "-4")]
spread("text", "minilm@-4")         # [("text", "minilm", "-4")]: a choice, no mix
spread("text", "A,B")               # [("text@1", "A", None), ("text@2", "B", None)]: folders
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from umecache.fusion.naming import MARK

_LAYER = r"(?:last|-[1-9]\d{0,3})"
_SAID = re.compile(rf"(?P<ref>.+){MARK}(?P<layers>{_LAYER}(?:,{_LAYER})*)")


def spread(name: str, ref: str | None) -> list[tuple[str, str | None, str | None]]:
    """Names of features, each with the reference of its store and the layer that is asked of it (None: any)."""
    if ref is None:
        return [(name, None, None)]
    if said := _SAID.fullmatch(ref):
        layers = list(dict.fromkeys(said["layers"].split(",")))
        if len(layers) == 1:
            return [(name, said["ref"], layers[0])]
        return [(f"{name}{MARK}{layer}", said["ref"], layer) for layer in layers]
    refs = [part.strip() for part in ref.split(",") if part.strip()]
    if len(refs) < 2 or Path(ref).expanduser().exists():
        return [(name, ref, None)]
    return [(f"{name}{MARK}{number}", each, None) for number, each in enumerate(refs, 1)]


def stored_layer(manifest: Mapping[str, Any]) -> str:
    """The layer that a store holds."""
    recipe = manifest.get("recipe")
    return str(recipe.get("layers", "last")) if isinstance(recipe, Mapping) else "last"


def is_layer(manifest: Mapping[str, Any], layer: str | None) -> bool:
    """Whether a store holds this layer. `-1` is called "last" where the network has no norm behind it."""
    return layer is None or stored_layer(manifest) == layer or (layer == "-1" and stored_layer(manifest) == "last")


def same_but_layers(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two recipes are of one encoder, read at whatever layer, over the same preprocessing."""
    return {**one, "layers": None} == {**other, "layers": None}
