"""Every fusion method by name, loaded when asked for. Importing this loads no torch.

    fusion = build_fusion("ume", {"text": 384, "image": 1280}, width=256, pairs="cross")
    cls = load_fusion("ume")               # the class itself; also "./mine.py:Mine", or an entry point's name

A new method: one file beside this one, one entry in catalogue.py, one in costs.py, one row in docs/methods.md. The
conformance suite in tests/fusion/contract.py takes it up by itself. A package of one's own can offer methods as entry
points of the group `umecache.fusions`.
"""

from __future__ import annotations

import importlib.util
import inspect
import pkgutil
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from umecache.errors import UnknownName, UsageError
from umecache.fusion.catalogue import METHODS, MethodEntry, Option
from umecache.stores import plugins

if TYPE_CHECKING:
    from umecache.fusion.base import Fusion

__all__ = ["METHODS", "MethodEntry", "Option", "build_fusion", "load_fusion", "offered_methods"]

ENTRY_POINTS = "umecache.fusions"
LISTING = "umecache methods"


def load_fusion(name: str) -> type[Fusion]:
    """The class of a method: a name of `METHODS`, an entry point's name, or "FILE.py:Class".

    Raises:
        UnknownName: no method is called so.
        UsageError: the file can't be used.
        PluginBroken: the package that offers it can't be imported.
    """
    if ".py:" in name or name.endswith(".py"):
        return _from_file(name)
    if name in METHODS:
        return _checked(pkgutil.resolve_name(METHODS[name].target), name)
    offered = offered_methods()
    if name in offered:
        return _checked(plugins.load(offered[name]), name)
    raise UnknownName("fusion method", name, {*METHODS, *offered}, listing=LISTING)


def build_fusion(name: str, dims: Mapping[str, int], **options: Any) -> Fusion:
    """Make a fusion of the method `name` for features of these widths; `options` as `umecache methods` lists them.

    Raises:
        UsageError: an option that the method doesn't have, a value it can't take, or too few modalities.
    """
    cls = load_fusion(name)
    known = [p.name for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            close = get_close_matches(option, known, n=1)
            raise UsageError(
                f"The method {name!r} has no option {option!r}.",
                why=f"Did you mean {close[0]!r}?" if close else f"It has: {', '.join(known)}.",
                next=f"{LISTING} {name}" if name in METHODS else LISTING,
            )
    entry = METHODS.get(name)
    if entry is not None and len(dims) < entry.min_modalities:
        raise UsageError(
            f"The method {name!r} joins at least {entry.min_modalities} modalities.",
            why=f"Given: {', '.join(dims) or 'none'}.",
            next="umecache fuse --text STORE --image STORE",
        )
    return cls(dims, **options)


def offered_methods() -> dict[str, EntryPoint]:
    """Methods that installed packages offer, by name."""
    return plugins.offered(ENTRY_POINTS)


def file_of(name: str) -> Path | None:
    """The file of a method that is named as "FILE.py:Class", wherever one stands later; None of all others."""
    return Path(name.rpartition(":")[0]).expanduser().absolute() if ".py:" in name else None


def _from_file(name: str) -> type[Fusion]:
    path, _, attribute = name.rpartition(":")
    file = Path(path).expanduser()
    if not path or not attribute:
        raise UsageError(f"{name!r} names a file but no class.", next=f"--method {name.rstrip(':')}:MyFusion")
    if not file.is_file():
        raise UsageError(f"There is no file {file}.", why=f"The method is {name!r}.", next=LISTING)
    spec = importlib.util.spec_from_file_location(f"umecache_user_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} can't be imported.", next=f"python {file}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, attribute):
        close = get_close_matches(attribute, [key for key in vars(module) if not key.startswith("_")], n=1)
        guess = f"Did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"{file} has no class {attribute!r}.", why=guess, next=f"--method {path}:NAME")
    return _checked(getattr(module, attribute), name)


def _checked(found: Any, name: str) -> type[Fusion]:
    from umecache.fusion.base import Fusion  # torch loads here

    if not (isinstance(found, type) and issubclass(found, Fusion)):
        raise UsageError(
            f"{name!r} is not a fusion method.",
            why="A method is a subclass of umecache.fusion.base.Fusion.",
            next=LISTING,
        )
    return found
