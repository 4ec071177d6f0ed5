"""A call on several devices: one process for each, started from the caller's, which gets the result.

    document = in_members("fuse", ["cuda:0", "cuda:1"], {"method": "ume", "data": "vqa-v2"})
    python -m umecache.api.members REQUEST.json                  # what each of them runs

Requests and results are JSON files in a temporary folder. Nothing of the caller's script is run again, so it needs no
`if __name__ == "__main__"`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

from umecache.errors import JobFailed, UmecacheError, UsageError
from umecache.extraction.config import StoreSummary
from umecache.extraction.devices import start_processes
from umecache.stores import Store, open_store
from umecache.training.refs import store_ref


def in_members(call: str, devices: Sequence[str], arguments: Mapping[str, Any]) -> Any:
    """Run `umecache.CALL(**arguments)` in one process per device; what the main one tells.

    Raises:
        UsageError, JobFailed: what the main process raised, by its exit status; or a process that died.
    """
    with tempfile.TemporaryDirectory(prefix="umecache-call-") as folder:
        request, result = Path(folder) / "request.json", Path(folder) / "result.json"
        request.write_text(json.dumps({"call": call, "arguments": arguments}, default=_plain), encoding="utf-8")
        status = start_processes(devices, [str(request)], module="umecache.api.members")
        told = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else {}
    if error := told.get("error"):
        kind = JobFailed if told["status"] == JobFailed.exit_status else UsageError
        raise kind(error["what"], why=error["why"], next=error["next"])
    if status or "result" not in told:
        raise JobFailed(f"The main of {len(devices)} processes ended with status {status}.", next="umecache doctor")
    return told["result"]


def summaries_of(told: Sequence[Mapping[str, Any]]) -> list[StoreSummary]:
    """Summaries of `extract` again; ids of failures are taken from the stores, since JSON has only strings."""
    return [StoreSummary(**{**each, "failures": open_store(each["path"]).failures}) for each in told]


def main(file: Path) -> int:
    """One of the processes; returns its exit status."""
    from umecache.api import calls
    from umecache.extraction.devices import is_main

    request = json.loads(file.read_text(encoding="utf-8"))
    known: dict[str, Callable[..., Any]] = {"extract": calls.extract, "fuse": calls.fuse, "compare": calls.compare}
    told: dict[str, Any]
    try:
        found = known[request["call"]](**request["arguments"])
        if request["call"] == "extract":
            told = {"result": [asdict(each) for each in found]}
        else:
            told = {"result": {"path": str(found.path), "document": found.document}}
        status = 0
    except UmecacheError as error:
        told, status = {"error": error.as_json(), "status": error.exit_status}, error.exit_status
    if is_main():  # the others meet the same bad input, and leave it to the main one to say so
        file.with_name("result.json").write_text(json.dumps(told), encoding="utf-8")
    return status


def _plain(value: Any) -> Any:
    """What JSON doesn't know: paths and stores by their folder, mappings, NumPy's numbers."""
    if isinstance(value, str | PathLike | Store | StoreSummary):
        return store_ref(value)
    if isinstance(value, Mapping):
        return dict(value)
    return value.tolist()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
