"""All checks, in the order in which they are shown.

findings = list(examine())
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from umecache.doctor import network, software, storage
from umecache.doctor.finding import Check, Finding, run_checks
from umecache.home import home, homes

SECONDS = 120.0  # for all of them together, side by side


def all_checks() -> dict[str, Check]:
    """Every check by name; each home has its own."""
    written = home()
    return {
        "Python": software.python,
        "packages": software.packages,
        "torch": software.devices,
        "plug-ins": software.plug_ins,
        **{f"home {each}": partial(storage.check_home, each, writes=each == written) for each in homes()},
        "hub": network.hub,
        "tokens": network.tokens,
    }


def examine() -> Iterator[Finding]:
    """What this machine has and lacks."""
    return run_checks(all_checks(), timeout=SECONDS)
