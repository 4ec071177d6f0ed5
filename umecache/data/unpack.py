"""Unpack a zip file that came from somewhere: checked before, all or nothing after.

    unpack(Path("train2014.zip"), Path("vqa-v2"), {"train2014": 82_783})

A truncated or damaged archive, a wrong number of records or images, a name that would leave the folder, a link, more
bytes than the disk holds: each is found before anything gets its name. zip's own checksums are compared as bytes are
unpacked, into a temporary folder; then files move into place by rename. One process at a time for one archive.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from umecache.data.images import image_id_of
from umecache.data.records import read_records
from umecache.errors import JobFailed
from umecache.reporting import Reporter, Silent

FreeBytes = Callable[[Path], int]


class BadArchive(JobFailed):
    """The archive is not what it should be: to be thrown away and fetched again."""


def free_bytes(folder: Path) -> int:
    """Bytes that can still be written to the disk of a folder."""
    return shutil.disk_usage(folder).free


def unpack(
    archive: Path,
    folder: Path,
    contents: Mapping[str, int],
    *,
    reporter: Reporter | None = None,
    free: FreeBytes = free_bytes,
) -> None:
    """Unpack what `contents` names, from `archive` into `folder`.

    Args:
        contents: a JSON file of records, or a folder of images -> how many records or images it must hold.

    Raises:
        BadArchive: it is cut short or damaged, has unsafe names or other counts.
        JobFailed: the disk is too small, or writing failed.
    """
    reporter = reporter or Silent()
    scratch = folder / f".{archive.name}.unpacking"
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    try:
        with zipfile.ZipFile(archive) as file:
            members = _members(archive, file, contents)
            need, have = sum(member.file_size for member in members), free(folder)
            if need > have:
                raise JobFailed(
                    f"Unpacking {archive.name} takes {need / 1e9:.1f} GB; {folder} has {have / 1e9:.1f} GB left.",
                    next="make room and run the same command again: what was fetched is kept",
                )
            with reporter.task(f"unpacking {archive.name}", len(members), "files") as task:
                for member in members:
                    target = scratch / _path(archive, member)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with file.open(member) as source, target.open("xb") as out:
                        shutil.copyfileobj(source, out, 1 << 20)
                    task.advance()
        for name, count in contents.items():
            found = count_contents(scratch / name, reporter)
            if found != count:
                raise BadArchive(f"{archive} holds {found:,} records or images in {name}; {count:,} are expected.")
        for name in contents:
            _move(scratch / name, folder / name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # RuntimeError: encrypted; NotImplementedError: a compression that Python lacks.
        raise BadArchive(f"{archive} is cut short or damaged: {error}.") from error
    except OSError as error:
        raise JobFailed(f"{archive} could not be unpacked to {folder}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def count_contents(path: Path, reporter: Reporter | None = None) -> int | None:
    """Records of a questions or annotations file, images of a folder; None where there is none.

    Raises:
        DataError: the file is no proper JSON.
    """
    if path.is_dir():
        return sum(image_id_of(entry.name) is not None for entry in path.iterdir())
    if path.is_file():
        key = "annotations" if "annotations" in path.name else "questions"
        return sum(1 for _ in read_records(path, key, reporter=reporter))
    return None


def _members(archive: Path, file: zipfile.ZipFile, contents: Mapping[str, int]) -> list[zipfile.ZipInfo]:
    """The entries to unpack; counted before a byte is, since an image archive takes minutes."""
    wanted = []
    for info in file.infolist():
        path = _path(archive, info)
        if info.is_dir() or path.parts[0] not in contents:
            continue  # a README, or __MACOSX
        wanted.append(info)
    names = [_path(archive, info) for info in wanted]
    if len(set(names)) != len(names):
        raise BadArchive(f"{archive} has a name twice.")
    for name, count in contents.items():
        inside = [path for path in names if path.parts[0] == name]
        if not inside:
            raise BadArchive(f"{archive} holds no {name}.")
        images = sum(image_id_of(path.name) is not None for path in inside)
        if inside != [PurePosixPath(name)] and images != count:
            raise BadArchive(f"{archive} holds {images:,} images in {name}; {count:,} are expected.")
    return wanted


def _path(archive: Path, info: zipfile.ZipInfo) -> PurePosixPath:
    path = PurePosixPath(info.filename)
    unsafe = path.is_absolute() or ".." in path.parts or not path.parts or any(c in info.filename for c in "\\:\0")
    if unsafe or stat.S_ISLNK(info.external_attr >> 16):
        raise BadArchive(f"{archive} has an entry that leads outside its folder: {info.filename!r}.")
    return path


def _move(source: Path, target: Path) -> None:
    if source.is_dir() and target.is_dir():  # some images were there already: the archive's take their places
        for path in source.iterdir():
            _move(path, target / path.name)
    else:
        source.replace(target)
