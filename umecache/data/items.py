"""Labelled items of any kind: one JSON object per line, `items_SPLIT.jsonl`.

    {"id": 1, "text": "the film drags", "image": "posters/1.jpg", "audio": "clips/1.wav", "label": "negative"}

`id` is a whole number; `text`, `image`, `audio` and `label` may be absent. Paths count from the file's folder. An item
is read as a question (its text) about an image and a sound with one answer (its label): so all that works for
questions works for items, but that labels are never normalised and a prediction is right only if it is the label,
letter for letter.

Images and sounds are numbered by the first item that has them, so that items that share one have it encoded once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umecache.data.dataset_types import Annotation, Question
from umecache.data.images import ImageIndex
from umecache.data.records import is_id, kind_of
from umecache.errors import DataError
from umecache.reporting import Reporter, Silent

LABELLED = "labelled"  # question and answer type of all items
_TELL = 10_000  # lines between two words on progress


@dataclass(frozen=True, slots=True)
class Items:
    """The items of a file.

    Attributes:
        questions: id, image and text of each; the text is empty where an item has none.
        annotations: by id; None where no item has a label.
        images: image number -> file.
        sounds: sound number -> file.
    """

    questions: list[Question]
    annotations: dict[int, Annotation] | None
    images: dict[int, Path]
    sounds: dict[int, Path]


class ListedFiles(ImageIndex):
    """Files that were named one by one."""

    def __init__(self, files: Mapping[int, Path]) -> None:
        super().__init__(())
        self._files = dict(files)

    def __contains__(self, image_id: int) -> bool:
        return self.path(image_id) is not None

    def path(self, image_id: int) -> Path | None:
        """The file of a number; None where none is named or it is not there."""
        file = self._files.get(image_id)
        return file if file is not None and file.is_file() else None

    def named(self, number: int) -> Path | None:
        """The file that an item names, be it there or not."""
        return self._files.get(number)

    def check(self, image_ids: Iterable[int]) -> None:
        """Each number has one file."""


def read_items(path: Path, limit: int | None = None, reporter: Reporter | None = None) -> Items:
    """The items of a file in its order; the first `limit` of them.

    Raises:
        DataError: names the file and the line.
    """
    questions: list[Question] = []
    annotations: dict[int, Annotation] = {}
    images: dict[int, Path] = {}
    sounds: dict[int, Path] = {}
    number_of: dict[tuple[str, str], int] = {}  # by field and path

    def file(item: dict[str, Any], field: str, files: dict[int, Path]) -> int:
        key: int = item["id"]
        if (name := item.get(field)) is not None:
            key = number_of.setdefault((field, name), key)
            files[key] = path.parent / name
        return key

    first_line: dict[int, int] = {}
    try:
        with path.open(encoding="utf-8") as lines, (reporter or Silent()).task(path.name, None, "items") as task:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                item = _object(path, number, line)
                key = item["id"]
                if key in first_line:
                    raise DataError(f"{path}: id {key} comes twice (lines {first_line[key]} and {number}).")
                first_line[key] = number
                image_id, audio_id = file(item, "image", images), file(item, "audio", sounds)
                questions.append(Question(key, image_id, item.get("text") or "", audio_id))
                if (label := item.get("label")) is not None:
                    annotations[key] = Annotation((str(label),), str(label), LABELLED, LABELLED, labelled=True)
                if len(questions) == limit:
                    break
                if number % _TELL == 0:
                    task.advance(_TELL)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read.", why=f"{error}.") from error
    if not questions:
        raise DataError(f"{path} holds no items.")
    if annotations and len(annotations) < len(questions):
        missing = next(question.id for question in questions if question.id not in annotations)
        raise DataError(
            f"{path}: {len(questions) - len(annotations):,} of {len(questions):,} items have no label (first: id "
            f"{missing}, line {first_line[missing]}).",
            why="Either all items of a split are labelled or none is.",
        )
    return Items(questions, annotations or None, images, sounds)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        item = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}, line {number}: {error}.", why="Each line is a JSON object.") from error
    if not isinstance(item, dict):
        raise DataError(f"{path}, line {number}: {kind_of(item)}; a JSON object is expected.")
    if not is_id(item.get("id")):
        found = kind_of(item["id"]) if "id" in item else "missing"
        raise DataError(
            f"{path}, line {number}: id is {found}; a whole number from 0 to 2^63 - 1 is expected.",
            next="number the items",
        )
    for field in ("text", "image", "audio"):
        if not isinstance(item.get(field), str | None) or (field != "text" and item.get(field) == ""):
            raise DataError(f"{path}, line {number}: {field} is {kind_of(item[field])}; a string is expected.")
    if type(item.get("label")) not in (str, int, type(None)):
        raise DataError(f"{path}, line {number}: label is {kind_of(item['label'])}; a string is expected.")
    return item
