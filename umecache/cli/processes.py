"""A command's work in one process or, where several devices are named, in one process for each.

result = in_processes(config.device, lambda: fuse(config, reporter))
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

import typer

from umecache.errors import UmecacheError

T = TypeVar("T")


def in_processes(devices: str, work: Callable[[], T]) -> T | None:
    """`work()`; None where processes were started that have done it.

    `auto` takes one device: heads share one read of the features, and every process reads them for itself.

    Raises:
        UmecacheError: as `work` does; in other processes than the main one its exit status only, since the main one
            meets the same bad input and says so.
    """
    from umecache.extraction.devices import launched, parse_devices, start_processes

    if not launched():
        if devices != "auto" and len(named := parse_devices(devices)) > 1:
            if status := start_processes(named, sys.argv[1:]):
                raise typer.Exit(status)
            return None
        return work()
    try:
        return work()
    except UmecacheError as error:
        rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))
        if rank == "0":
            raise
        if error.exit_status == 1:
            sys.stderr.write(f"process {rank}: {error}\n")
        raise typer.Exit(error.exit_status) from error
