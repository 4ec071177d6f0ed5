"""Small text files, written whole or not at all.

    write_text(path, text)

(`umecache.stores.files` has its own: a store imports nothing of ours, and data needs no NumPy.)
"""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from umecache.errors import JobFailed


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 under a temporary name and rename it: readers see the old file or the whole new one.

    Folders on the way are made.

    Raises:
        JobFailed: the disk is full, the folder can't be written, `path` is a folder.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise JobFailed(f"{path} can't be written: {error.strerror}.") from error
    finally:
        with contextlib.suppress(OSError):  # renamed, or never made
            temporary.unlink()
