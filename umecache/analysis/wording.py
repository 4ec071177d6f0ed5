"""The words behind a question's text tokens, for pictures; none where they can't be known.

    words = Wording(declaration(store), store.path)
    words.pieces("what is red?", count=6)        # ["[CLS]", "what", "is", "red", "?", "[SEP]"]; None: not known

Tokens are cached, their words are not: they take the tokenizer of the encoder that made the store, and so its files. A
machine without them still has the maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from umecache.errors import UmecacheError


class Wording:
    """The tokenizer of a text store, loaded when first asked for.

    Args:
        declared: what the store says of its encoder (`extraction.reload.declaration`).
        store: where it lies.
        weights: model -> checkpoint, where the encoder's files are not found by themselves.

    Attributes:
        trouble: why there are no words; "" as long as there are.
    """

    def __init__(self, declared: Mapping[str, Any], store: Path, weights: Mapping[str, str] | None = None) -> None:
        self._declared, self._store, self._weights = declared, store, dict(weights or {})
        self.trouble = ""

    def pieces(self, text: str, count: int) -> list[str] | None:
        """The text's `count` tokens in words; None where they are not known."""
        if self._split is None:
            return None
        found = self._split(text)
        if len(found) != count:
            self.trouble = f"the tokenizer gives {len(found)} tokens where the store has {count}"
            return None
        return found

    @cached_property
    def _split(self) -> Callable[[str], list[str]] | None:
        from umecache.encoders.tokens import TextEncoder
        from umecache.extraction.reload import reload_encoder

        model = self._declared.get("model")
        if not isinstance(model, str) or not isinstance(self._declared.get("recipe"), Mapping):
            self.trouble = "the store names no encoder"
            return None
        try:
            encoder = reload_encoder(self._declared, weights=self._weights.get(model), store=self._store)
        except (UmecacheError, OSError, ImportError, KeyError) as error:  # offline, moved, another version of it
            self.trouble = error.what if isinstance(error, UmecacheError) else f"{type(error).__name__}: {error}"
            return None
        if not isinstance(encoder, TextEncoder):
            self.trouble = f"{model} reads no text"
            return None
        return encoder.tokenizer.pieces
