"""A finding, and how checks are run so that none of them can stop another.

    for finding in run_checks({"Python": python}, timeout=60): print(finding.status, finding.says)

A check is a function that gives findings. Whatever it raises becomes a finding of its own; one that hangs (a network
share that is gone) is left behind after `timeout` seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["PASS", "WARN", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's.

    Attributes:
        check: what was looked at.
        status: PASS; WARN where umecache works, but slower, or not all of it; FAIL where something it needs won't work.
        says: what was found.
        remedy: the step that mends it; empty for PASS.
    """

    check: str
    status: Status
    says: str
    remedy: str = ""


Check = Callable[[], Iterable[Finding]]


def run_checks(checks: Mapping[str, Check], *, timeout: float) -> Iterator[Finding]:
    """All findings, in the order of the checks, which run side by side.

    Args:
        timeout: seconds that all of them have.
    """
    found: dict[str, list[Finding]] = {}

    def run(name: str, check: Check) -> None:
        try:
            found[name] = list(check())
        except Exception as error:  # a check must not stop the others, whatever is broken here
            says = f"could not be checked: {type(error).__name__}: {error}"
            found[name] = [Finding(name, "WARN", says, "report this: it is a bug of the doctor's")]

    # Daemons: what hangs in the kernel can't be ended, and must not keep the program from ending.
    threads = {
        name: threading.Thread(target=run, args=(name, check), daemon=True, name=f"doctor-{name}")
        for name, check in checks.items()
    }
    for thread in threads.values():
        thread.start()
    until = time.monotonic() + timeout
    for name, thread in threads.items():
        thread.join(max(0.0, until - time.monotonic()))
        hung = Finding(name, "FAIL", f"does not answer within {timeout:g} s", "is a network share or a device gone?")
        yield from found.get(name, [hung])
