"""Where the files of a data folder are: official VQA v2 names, `questions_SPLIT.json`, or what a `dataset.toml` says.

    name, splits = find_splits(Path("vqa-v2"))
    splits["train"].questions      # .../v2_OpenEnded_mscoco_train2014_questions.json

A `dataset.toml`, where there is one, rules alone; the two patterns may stand side by side. JSON may be gzipped
(`.json.gz`); of a plain and a gzipped file of one name, the plain one is read. Schema of the file: docs/data.md.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umecache.errors import DataError

TOML = "dataset.toml"
_QUESTIONS = re.compile(r"(?:v2_OpenEnded_mscoco_(?P<subset>.+)_questions|questions_(?P<split>.+))\.json(?:\.gz)?")
_ITEMS = re.compile(r"items_(?P<split>.+)\.jsonl")
_YEAR = re.compile(r"20\d\d$")
_USUAL = ("train", "val", "test-dev", "test")  # in this order where there are several
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")  # names become folder names of stores and runs


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """The files of one split.

    Attributes:
        annotations: None where the split has none (test).
        images: folders that may hold its images, in the order they are searched; they need not exist.
        items: `questions` is a file of labelled items, and that is all there is.
    """

    name: str
    questions: Path
    annotations: Path | None
    images: tuple[Path, ...]
    items: bool = False


def find_splits(folder: Path) -> tuple[str, dict[str, SplitFiles]]:
    """The name of the data in `folder` and its splits.

    Raises:
        DataError: no split is found, a split is found twice, or `dataset.toml` is wrong.
    """
    try:
        names = {entry.name for entry in os.scandir(folder)}
    except OSError as error:
        raise DataError(f"{folder} can't be listed: {error.strerror}.") from error
    if TOML in names:
        return read_toml(folder / TOML)
    splits: dict[str, SplitFiles] = {}
    for name in sorted(names):
        if (items := _ITEMS.fullmatch(name)) is not None:
            splits[items["split"]] = SplitFiles(items["split"], folder / name, None, (), items=True)
    for name in sorted(names):
        match = _QUESTIONS.fullmatch(name)
        if match is None or (name.endswith(".gz") and name.removesuffix(".gz") in names):
            continue
        subset = match["subset"]
        split = _YEAR.sub("", subset) if subset else match["split"]
        if split in splits:
            raise DataError(
                f"{folder} has the split {split!r} twice: {splits[split].questions.name} and {name}.",
                next=f"move one of them away, or say which to read in {folder / TOML}",
            )
        annotations = f"v2_mscoco_{subset}_annotations.json" if subset else f"annotations_{split}.json"
        found = next((folder / a for a in (annotations, f"{annotations}.gz") if a in names), None)
        splits[split] = SplitFiles(split, folder / name, found, _image_folders(folder, split, subset))
    if not splits:
        has_json = any(name.endswith((".json", ".json.gz")) for name in names)
        raise DataError(
            f"{folder} holds no data set that is known.",
            why="It has neither v2_OpenEnded_mscoco_*_questions.json nor questions_SPLIT.json nor items_SPLIT.jsonl "
            f"nor {TOML}.",
            next=f"say its file names in {folder / TOML} (docs/data.md shows how)"
            if has_json
            else "--data DIR with a folder that has them (docs/own-data.md shows one); umecache data sample draws one",
        )
    return folder.name, {name: splits[name] for name in sorted(splits, key=_usual_order)}


def read_toml(path: Path) -> tuple[str, dict[str, SplitFiles]]:
    """The name and the splits that a `dataset.toml` says; paths in it count from its own folder.

    Raises:
        DataError: it can't be read, misses a field or has one that isn't known.
    """
    try:
        document = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise DataError(f"{path} is no proper TOML: {error}.") from error
    name = document.pop("name", path.parent.name)
    tables = document.pop("splits", None)
    if document:
        raise _toml_error(path, f"unknown field {min(document)!r}", "It may have `name` and [splits.NAME] tables.")
    if name != path.parent.name and (not isinstance(name, str) or not _NAME.fullmatch(name)):
        raise _toml_error(path, f"name = {name!r} can't name a folder", "Letters, digits and . _ + - are taken.")
    if not isinstance(tables, dict) or not tables:
        raise _toml_error(path, "there is no [splits.NAME] table", "Each split needs one.")
    return name, {split: _toml_split(path, split, table) for split, table in tables.items()}


def _toml_split(path: Path, split: str, table: Any) -> SplitFiles:
    where = f"[splits.{split}]"
    if not _NAME.fullmatch(split):
        raise _toml_error(path, f"{where} can't name a folder", "Letters, digits and . _ + - are taken.")
    if not isinstance(table, dict):
        raise _toml_error(path, f"{where} is no table", "")
    if unknown := set(table) - {"questions", "annotations", "images"}:
        raise _toml_error(
            path, f"{where} has the unknown field {min(unknown)!r}", "Known: questions, annotations, images."
        )
    images = table.get("images")
    if isinstance(images, str):
        images = [images]
    texts = [table.get("questions"), table.get("annotations", ""), *(images if isinstance(images, list) else [])]
    if not all(isinstance(text, str) for text in texts) or not texts[0] or not isinstance(images, list | None):
        raise _toml_error(
            path,
            f"{where} is not as expected",
            "It needs `questions` (a path); `annotations` (a path) and `images` (a path or a list of them) may follow.",
        )
    # expanduser and absolute, not resolve: a symbolic link of a lab's data folder stays what people read in errors.
    paths = [(path.parent / Path(text).expanduser()).absolute() for text in texts]
    default = _image_folders(path.parent.absolute(), split, None)
    return SplitFiles(split, paths[0], paths[1] if texts[1] else None, default if images is None else tuple(paths[2:]))


def _toml_error(path: Path, what: str, why: str) -> DataError:
    return DataError(f"{path}: {what}.", why=why, next="docs/data.md shows a whole file")


def _image_folders(folder: Path, split: str, subset: str | None) -> tuple[Path, ...]:
    names = [f"images/{split}", f"images_{split}", "images"]
    if subset:
        coco = re.sub(r"^test-.*(20\d\d)$", r"test\1", subset)  # test-dev2015 asks about test2015 images
        names = [coco, f"images/{coco}", *names]
    return tuple(folder / name for name in names)


def _usual_order(split: str) -> tuple[int, str]:
    return (_USUAL.index(split) if split in _USUAL else len(_USUAL), split)
