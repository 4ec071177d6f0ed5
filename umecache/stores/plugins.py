"""What installed packages add: entry points of a group, by name; loaded when asked for, each on its own.

    offered("umecache.store_formats")            # {"parquet": EntryPoint(...)}: nothing of theirs is imported
    load(offered("umecache.fusions")["gated"])

The groups are `umecache.encoders`, `umecache.fusions` and `umecache.store_formats`. A package that fails to import
breaks its own names only. This lies at the bottom of the house, since stores are used alone.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from umecache.stores.errors import UmecacheError

GROUPS = {
    "umecache.encoders": "encoder",
    "umecache.fusions": "fusion method",
    "umecache.store_formats": "store format",
}


class PluginBroken(UmecacheError):
    """A package offers a name and fails when it is to be loaded."""


def offered(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group, by name."""
    return {point.name: point for point in entry_points(group=group)}


def load(point: EntryPoint) -> Any:
    """What an entry point names.

    Raises:
        PluginBroken: it can't be imported; names the package.
    """
    try:
        return point.load()
    except Exception as error:  # whatever a stranger's module does when it is imported
        package = package_of(point)
        raise PluginBroken(
            f"The {GROUPS.get(point.group, 'plug-in')} {point.name!r} of the package {package!r} can't be loaded.",
            why=f"{type(error).__name__}: {error}.",
            next=f"pip install --upgrade {package}, or pip uninstall {package}; umecache doctor checks all of them",
        ) from error


def package_of(point: EntryPoint) -> str:
    """The distribution that offers an entry point; its module, where that is not known."""
    return point.dist.name if point.dist is not None else point.module.partition(".")[0]
