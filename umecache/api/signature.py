"""Signatures that say every setting and its default, for `help()` and editors that look at the running program.

@with_settings(FuseSettings, FuseConfig)
def fuse(*, reporter: Reporter | None = None, **settings: Unpack[FuseSettings]) -> FuseResult: ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

RENAMED = {"devices": "device", "split": "splits"}
"""Settings whose field of the configuration has another name."""


def with_settings(settings: Any, *configs: Any) -> Callable[[F], F]:
    """Show the keys of a TypedDict in place of `**settings`, each with the default of its field in a configuration.

    What no field has (the recipe) is None by default, "not said".
    """
    known = {field.name: field for config in configs for field in fields(config)}

    def default(name: str) -> Any:
        field = known.get(RENAMED.get(name, name))
        if field is None:
            return None
        return field.default_factory() if field.default_factory is not MISSING else field.default

    def decorate(function: F) -> F:
        plain = inspect.signature(function)
        own = [p for p in plain.parameters.values() if p.kind is not p.VAR_KEYWORD]
        said = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default(name), annotation=_words(kind))
            for name, kind in settings.__annotations__.items()
        ]
        function.__signature__ = plain.replace(parameters=[*own, *said])  # type: ignore[attr-defined]
        return function

    return decorate


def _words(annotation: Any) -> str:
    """An annotation as it was written; `TypedDict` keeps it as a forward reference."""
    return str(getattr(annotation, "__forward_arg__", annotation))
