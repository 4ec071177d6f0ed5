"""Option values that several commands read alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from umecache.errors import UnknownName, UsageError

Entry = TypeVar("Entry")


def key_values(pairs: Sequence[str] | None, *, flag: str) -> dict[str, Any]:
    """`KEY=VALUE` options as a dict; a value is read as JSON where it is JSON, else kept as a string.

    >>> key_values(["depth=2", "pad_type=same"], flag="--model-arg")
    {'depth': 2, 'pad_type': 'same'}
    """
    found: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{flag} {pair!r} can't be read.", why="It takes KEY=VALUE.", next=f"{flag} depth=2")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def names(text: str | None, *, flag: str) -> tuple[str, ...] | None:
    """`a,b,c` as a tuple; None stays None."""
    if text is None:
        return None
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts:
        raise UsageError(f"{flag} {text!r} names nothing.", next=f"{flag} train,val")
    return parts


def numbers(text: str | None, *, flag: str) -> tuple[float, ...] | None:
    """`0.5,0.5,0.5` (or one number for all channels) as a tuple of three."""
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise UsageError(
            f"{flag} {text!r} can't be read.", why="It takes one number or three.", next=f"{flag} 0.5,0.5,0.5"
        )
    return values


def some_of(known: Mapping[str, Entry], names: Sequence[str] | None, *, kind: str, listing: str) -> list[Entry]:
    """The entries of these names, in the order asked for; all where none is named."""
    for name in names or ():
        if name not in known:
            raise UnknownName(kind, name, known, listing=listing)
    return [known[name] for name in names or known]


def per_model(values: Sequence[str] | None, models: Sequence[str], *, flag: str) -> tuple[str | None, ...]:
    """A repeatable option beside a repeatable `--model`: one value for all, one each in order, or MODEL=VALUE."""
    if not values:
        return (None,) * len(models)
    prefixed: Mapping[str, str] = {
        model: value.removeprefix(f"{model}=") for value in values for model in models if value.startswith(f"{model}=")
    }
    if len(prefixed) == len(values):
        return tuple(prefixed.get(model) for model in models)
    if len(values) == 1:
        return (values[0],) * len(models)
    if len(values) == len(models):
        return tuple(values)
    raise UsageError(
        f"{flag} was given {len(values)} times for {len(models)} models.",
        why="It takes one value for all, one for each in order, or MODEL=VALUE.",
        next=f"{flag} {models[0]}=...",
    )
