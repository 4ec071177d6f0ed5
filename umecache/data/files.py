"""Small files, written whole or not at all.

    write_text(path, text)
    write_bytes(path, content)

(`umecache.stores.files` has its own: a store imports nothing of ours, and data needs no NumPy.)
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from pathlib import Path

from umecache.errors import JobFailed


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 under a temporary name and rename it: readers see the old file or the whole new one.

    Folders on the way are made.

    Raises:
        JobFailed: the disk is full, the folder can't be written, `path` is a folder.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """The same of bytes.

    Raises:
        JobFailed: as `write_text`.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # `clear_temporary` knows it by that
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise JobFailed(f"{path} can't be written: {error.strerror}.") from error
    finally:
        with contextlib.suppress(OSError):  # renamed, or never made
            temporary.unlink()


def clear_temporary(folder: Path) -> None:
    """Remove what writers that were killed left in a folder; nobody else may be writing there now."""
    for file in folder.glob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{32}", file.name) and file.is_file():
            file.unlink(missing_ok=True)
