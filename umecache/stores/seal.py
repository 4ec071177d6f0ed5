"""Sealing: the last process to finish writes ids, places, manifest and, last of all, CHECKSUMS.

    seal(job, facts, files, fingerprint, recipe_hash)

Everything here follows from the plan and the receipts, so whichever process does it, and however often, the bytes are
the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.stores.commit import CHECKSUMS, checksums
from umecache.stores.errors import StoreError
from umecache.stores.files import inside, make_dirs, pretty, replace_file, walk
from umecache.stores.manifest import MANIFEST, build_manifest
from umecache.stores.plan import Plan
from umecache.stores.receipts import Failure, Receipt, receipt_name
from umecache.stores.shard import Job


def seal(
    job: Job,
    facts: Mapping[str, Any],
    files: Mapping[str, bytes],
    *,
    fingerprint: str,
    recipe_hash: str,
) -> None:
    """Complete a store whose shards all have valid receipts.

    Args:
        facts: for the manifest.
        files: relative path -> bytes of small files that travel with the store.

    Raises:
        StoreError: a shard is not done, or somebody put other files into the store.
    """
    found = [job.receipt(k) for k in range(job.plan.shards)]
    receipts = [receipt for receipt in found if receipt is not None]
    if len(receipts) < len(found):
        undone = len(found) - len(receipts)
        raise StoreError(f"{job.path} can't be sealed: {undone} of {len(found)} shards are not done.")
    if job.complete:
        return
    length, failures = outcome(job.plan, receipts)
    written: dict[str, bytes] = dict(
        job.format.index_files(
            job.plan,
            length,
            dtype=job.dtype,
            compression=job.compression,
            files=[[fact.path for fact in receipt.files] for receipt in receipts],
            scratch=job.work.tmp,
        )
    )
    written.update(files)
    shards = [
        {
            "records": len(receipt.ids),
            "rows": receipt.rows,
            "files": [{"path": fact.path, "bytes": fact.bytes} for fact in receipt.files],
        }
        for receipt in receipts
    ]
    manifest = build_manifest(
        facts,
        job.plan,
        format=job.format.name,
        dtype=job.dtype,
        compression=job.compression,
        fingerprint=fingerprint,
        recipe_hash=recipe_hash,
        failures=failures,
        shards=shards,
        outliers=sum(receipt.outliers for receipt in receipts),
    )
    written[MANIFEST] = pretty(manifest)

    sums = {name: hashlib.sha256(data).hexdigest() for name, data in written.items()}
    for receipt in receipts:
        sums.update({fact.path: fact.sha256 for fact in receipt.files})
        sums[receipt_name(receipt.shard)] = hashlib.sha256(receipt.to_json()).hexdigest()
    _tidy(job, sums.keys() | {CHECKSUMS})
    for name, data in written.items():
        make_dirs((job.path / name).parent)
        replace_file(job.path / name, data, scratch=job.work.tmp)
    replace_file(job.path / CHECKSUMS, checksums(sums), scratch=job.work.tmp)


def _tidy(job: Job, expected: Sequence[str] | set[str]) -> None:
    """Remove shard files that no receipt names: their process was killed before it could sign for them."""
    for name in walk(job.path):
        if name in expected:
            continue
        if PurePosixPath(name).parts[0] not in ("tokens", "scale", "exact", "shards", "receipts"):
            raise StoreError(
                f"{job.path / name} is no file of this store.",
                why="A sealed store lists every file that it holds.",
                next="Move it elsewhere, then run the same command again.",
            )
        inside(job.path, name).unlink()


def outcome(plan: Plan, receipts: Sequence[Receipt]) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
    """Final lengths [n], and the failure list over all ids in their order."""
    bad: dict[int, Failure] = {}
    for receipt in receipts:
        for failure in receipt.failures:
            bad[int(plan.bounds[receipt.shard]) + failure.record] = failure
    length = plan.length.copy()
    positions = np.flatnonzero(np.isin(plan.record, np.fromiter(bad, np.int64, len(bad)))).tolist()
    length[positions] = 0
    failures = []
    for position in sorted({*positions, *plan.failures}):
        found = bad.get(int(plan.record[position]))
        name = plan.ids[position]
        failures.append(
            {
                "id": name if isinstance(name, str) else int(name),
                "reason": plan.failures[position] if found is None else found.reason,
                "sha256": None if found is None else found.sha256,
                "tokens": int(plan.length[position]),
            }
        )
    return length, failures
