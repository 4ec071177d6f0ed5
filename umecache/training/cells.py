"""Cells of a comparison that its table can't take for each other.

cells = tell_apart([(text source, image source), ...])
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from umecache.errors import UsageError
from umecache.training.resolve import Source

Cell = tuple[Source, ...]
"""The stores of one pass: a source for each modality."""


def tell_apart(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, an encoder that has several stores among them named as its stores' folders are: MODEL-RECIPE8.

    Raises:
        UsageError: two cells read the same features.
    """
    seen = {tuple((source.name, source.model, _recipe(source)) for source in cell) for cell in cells}
    if len(seen) < len(cells):
        twice = ", ".join(dict.fromkeys(source.model for cell in cells for source in cell))
        raise UsageError(
            "A store is named twice.",
            why=f"Two of the {len(cells)} pairs of stores ({twice}) hold the same features.",
            next="name each store once; `umecache store diff A B` tells two of them apart",
        )
    recipes: dict[tuple[str, str], set[str]] = {}
    for source in itertools.chain(*cells):
        recipes.setdefault((source.name, source.model), set()).add(_recipe(source))

    def named(source: Source) -> Source:
        if len(recipes[source.name, source.model]) == 1:
            return source
        return replace(source, model=f"{source.model}-{_recipe(source)[:8]}")

    return [tuple(map(named, cell)) for cell in cells]


def _recipe(source: Source) -> str:
    """What decides the features of a store; of features made elsewhere, all that is known of them."""
    store = next(iter(source.stores.values()))
    return str(store.manifest.get("recipe_hash") or store.fingerprint)
