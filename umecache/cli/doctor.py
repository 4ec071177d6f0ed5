"""`umecache doctor`: what this machine has and lacks, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from umecache.cli.output import console, emit

COLOURS = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Say what this machine has and lacks: versions, GPUs, disks, rights, network; each with its remedy.

    Example:

        umecache doctor

    PASS is well; WARN: umecache works, but slower, or not all of it; FAIL: something it needs won't work, and the exit
    status is 1. It works where torch is broken, too, and never shows a token.
    """
    from dataclasses import asdict

    from umecache.doctor.checks import examine

    findings = list(examine())
    failed = any(finding.status == "FAIL" for finding in findings)

    def words() -> None:
        from rich.markup import escape

        shown = console()
        for finding in findings:
            colour = COLOURS[finding.status]
            line = f"[{colour}]{finding.status}[/{colour}]  {escape(finding.check)}: {escape(finding.says)}"
            shown.print(line, soft_wrap=True)
            if finding.remedy:
                shown.print(f"      {finding.remedy}", markup=False, soft_wrap=True)

    emit({"ok": not failed, "findings": [asdict(finding) for finding in findings]}, json=json, words=words)
    if failed:
        raise typer.Exit(1)
