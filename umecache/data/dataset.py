"""VQA-format data: questions, the ten answers of each, and where the images are.

    data = open_dataset("vqa-v2")                  # a folder, or a name under UMECACHE_HOME/data
    train = data.split("train")
    train.questions[0].text, train.annotations[train.questions[0].id].answers, train.image_path(25)

VQA v2 train (443,757 questions, 4.4 million answers) takes about 10 s on one core and 250 MB. Images are looked up
only when asked for: scoring needs none. A missing image is counted, never fatal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from umecache.data.dataset_types import Annotation as Annotation
from umecache.data.dataset_types import Question as Question
from umecache.data.images import ImageIndex
from umecache.data.items import ListedFiles, read_items
from umecache.data.layout import SplitFiles, find_splits, read_toml
from umecache.data.records import is_id, kind_of, read_records
from umecache.errors import DataError, UnknownName, UsageError
from umecache.home import find_data, homes
from umecache.reporting import Reporter

DEFAULT = "vqa-v2"
ANSWERS = 10  # human answers of a question
UNKNOWN_TYPE = "unknown"  # question or answer type, where annotations have none


class Split:
    """One split of a data folder, read and checked.

    Attributes:
        name, folder, data_name: which split of which data.
        questions: in file order.
        annotations: by question id, in the order of their file; None where the split has none (test).
        image_ids: distinct, in order of first mention.
        audio_ids: likewise of sounds; empty where no item has one.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        data_name: str,
        questions: Sequence[Question],
        annotations: Mapping[int, Annotation] | None,
        images: ImageIndex,
        sounds: ListedFiles | None = None,
    ) -> None:
        self.name, self.folder, self.data_name = name, folder, data_name
        self.questions = tuple(questions)
        self.annotations = annotations
        self.image_ids = tuple(dict.fromkeys(question.image_id for question in self.questions))
        asked = () if sounds is None else (question.audio_id for question in self.questions)
        self.audio_ids = tuple(dict.fromkeys(audio_id for audio_id in asked if audio_id is not None))
        self._index, self._sounds = images, sounds

    def __repr__(self) -> str:
        return f"Split({self.data_name!r}, {self.name!r}, {len(self.questions):,} questions)"

    def image_path(self, image_id: int) -> Path | None:
        """The file of an image; None where no file has that id.

        Raises:
            DataError: two files of one folder claim an image of this split.
        """
        return self._images.path(image_id)

    def file_ids(self, modality: str) -> tuple[int, ...]:
        """`image_ids` or `audio_ids`.

        Raises:
            DataError: the split has no sounds.
        """
        if modality == "image":
            return self.image_ids
        if not self.audio_ids:
            raise DataError(
                f"The split {self.name!r} of {self.folder} has no sounds.",
                why='Only items have them: {"id": 1, "audio": "clips/1.wav", ...} in items_SPLIT.jsonl.',
                next="umecache data sample DIR --sound makes some to try",
            )
        return self.audio_ids

    def file_path(self, modality: str, file_id: int) -> Path | None:
        """The file of an image or a sound; None where there is none."""
        if modality == "image":
            return self.image_path(file_id)
        return None if self._sounds is None else self._sounds.path(file_id)

    @property
    def names_files(self) -> bool:
        """Items name their files one by one, and numbers mean something in their own split only."""
        return isinstance(self._index, ListedFiles)

    def named_file(self, modality: str, number: int) -> Path | None:
        """The file that an item names for its image or sound, be it there or not; None where it names none."""
        index = self._index if modality == "image" else self._sounds
        return index.named(number) if isinstance(index, ListedFiles) else None

    @cached_property
    def missing_images(self) -> tuple[int, ...]:
        """Images that questions ask about and no file has, in the order of `image_ids`."""
        images = self._images
        return tuple(image_id for image_id in self.image_ids if image_id not in images)

    @cached_property
    def _images(self) -> ImageIndex:
        self._index.check(self.image_ids)
        return self._index

    def head(self, limit: int | None) -> Split:
        """The first `limit` questions and their images; None: all of them."""
        if limit is None or limit >= len(self.questions):
            return self
        questions = self.questions[: _checked(limit)]
        annotations = self.annotations
        if annotations is not None:
            kept = {question.id for question in questions}
            annotations = {key: value for key, value in annotations.items() if key in kept}
        return Split(self.name, self.folder, self.data_name, questions, annotations, self._index, self._sounds)


class Dataset:
    """A data folder: its name and its splits, which are read when asked for."""

    def __init__(self, name: str, folder: Path, files: Mapping[str, SplitFiles]) -> None:
        self.name, self.folder, self.files = name, folder, dict(files)
        self._indexes: dict[tuple[Path, ...], ImageIndex] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return tuple(self.files)

    def split(
        self, name: str, *, limit: int | None = None, annotations: bool = True, reporter: Reporter | None = None
    ) -> Split:
        """Read a split.

        Args:
            name: one of `splits`.
            limit: only the first questions; the files are read no further than needed, so what comes after goes
                unchecked.
            annotations: whether to read the answers, where the split has any.
            reporter: shows how far large files are.

        Raises:
            UnknownName: the data has no such split.
            DataError: a file can't be read or holds something wrong; names the file and the record.
        """
        if name not in self.files:
            raise UnknownName("split", name, self.files, listing=f"umecache data info {self.folder}")
        files = self.files[name]
        if files.items:
            if limit is not None:
                _checked(limit)
            items = read_items(files.questions, limit, reporter)
            told = items.annotations if annotations else None
            sounds = ListedFiles(items.sounds) if items.sounds else None
            return Split(name, self.folder, self.name, items.questions, told, ListedFiles(items.images), sounds)
        questions = read_questions(files.questions, limit, reporter)
        found = None
        if annotations and files.annotations is not None:
            image_ids = {question.id: question.image_id for question in questions}
            found = read_annotations(
                files.annotations, image_ids, files.questions, whole=limit is None, reporter=reporter
            )
        index = self._indexes.setdefault(files.images, ImageIndex(files.images))
        return Split(name, self.folder, self.name, questions, found, index)


def open_dataset(ref: str | Path | None) -> Dataset:
    """The data in a folder.

    Args:
        ref: a folder, a `dataset.toml`, or a name under `UMECACHE_HOME/data` (a folder of that name in the current
            folder goes first). None: VQA v2.

    Raises:
        DataError: there is no such folder, or it holds no data set.
    """
    path = find_data(DEFAULT) if ref is None else Path(ref).expanduser()
    if isinstance(ref, str) and not path.exists() and path.name == ref:
        path = find_data(ref)
    path = path.absolute()
    if path.is_file() and path.suffix == ".toml":
        name, files = read_toml(path)
        return Dataset(name, path.parent, files)
    if not path.is_dir():
        raise _no_folder(path, None if ref is None else str(ref))
    name, files = find_splits(path)
    return Dataset(name, path, files)


def read_questions(path: Path, limit: int | None = None, reporter: Reporter | None = None) -> list[Question]:
    """The questions of a file, in its order; the first `limit` of them.

    Raises:
        DataError: names the file and the record.
    """
    if limit is not None:
        _checked(limit)
    questions: list[Question] = []
    seen: set[int] = set()
    texts: dict[str, str] = {}  # a third of VQA's questions repeat another
    for number, record in read_records(path, "questions", reporter=reporter):
        question_id, image_id = _id(path, number, record, "question_id"), _id(path, number, record, "image_id")
        text = record.get("question")
        if type(text) is not str:
            raise _wrong(path, number, record, "question", "a string")
        if question_id in seen:
            first = next(i for i, question in enumerate(questions, 1) if question.id == question_id)
            raise DataError(f"{path}: question_id {question_id} comes twice (records {first} and {number}).")
        seen.add(question_id)
        questions.append(Question(question_id, image_id, texts.setdefault(text, text)))
        if len(questions) == limit:
            break
    if not questions:
        raise DataError(f"{path} holds no questions.")
    return questions


def read_annotations(
    path: Path,
    image_ids: Mapping[int, int],
    questions_path: Path,
    *,
    whole: bool = True,
    reporter: Reporter | None = None,
) -> dict[int, Annotation]:
    """The annotations of a file by question id, in its order.

    Args:
        image_ids: the image of each question that must have an annotation.
        questions_path: where these came from, for errors.
        whole: the file must have these questions only; else others are passed over.

    Raises:
        DataError: names the file and the record.
    """
    found: dict[int, Annotation] = {}
    memo = _Memo()
    for number, record in read_records(path, "annotations", reporter=reporter):
        question_id = _id(path, number, record, "question_id")
        if question_id not in image_ids:
            if whole:
                raise DataError(
                    f"{path}, record {number}: question_id {question_id} is no question of {questions_path}.",
                    why="Questions and annotations must match one to one.",
                )
            continue
        if record.get("image_id", image_ids[question_id]) != image_ids[question_id]:
            raise DataError(
                f"{path}, record {number}: question {question_id} is about image {kind_of(record['image_id'])}, but "
                f"about image {image_ids[question_id]} in {questions_path}."
            )
        if question_id in found:
            first = list(found).index(question_id) + 1
            raise DataError(f"{path}: question_id {question_id} comes twice (records {first} and {number}).")
        found[question_id] = _annotation(path, number, record, memo)
        if not whole and len(found) == len(image_ids):
            break
    if len(found) < len(image_ids):
        missing = [question_id for question_id in image_ids if question_id not in found]
        raise DataError(
            f"{path} has no annotation for {len(missing):,} of {len(image_ids):,} questions of {questions_path} "
            f"(first: question_id {missing[0]}).",
            why="Questions and annotations must match one to one.",
        )
    return found


def _annotation(path: Path, number: int, record: dict[str, Any], memo: _Memo) -> Annotation:
    raw = record.get("answers")
    try:
        answers = [memo[item["answer"]] for item in raw]  # type: ignore[union-attr]
    except (TypeError, KeyError):
        raise _wrong_answers(path, number, record) from None
    if len(answers) != ANSWERS or set(map(type, answers)) != {str}:
        raise _wrong_answers(path, number, record)
    question_type, answer_type = record.get("question_type", UNKNOWN_TYPE), record.get("answer_type", UNKNOWN_TYPE)
    answer = record.get("multiple_choice_answer")
    if answer is None and "multiple_choice_answer" not in record:
        answer = Counter(answers).most_common(1)[0][0]
    for field, value in (
        ("multiple_choice_answer", answer),
        ("question_type", question_type),
        ("answer_type", answer_type),
    ):
        if type(value) is not str:
            raise _wrong(path, number, record, field, "a string")
    return Annotation(tuple(answers), memo[answer], memo[question_type], memo[answer_type])


class _Memo(dict[Any, Any]):
    """One object for equal strings: answers and types repeat millions of times."""

    def __missing__(self, key: Any) -> Any:
        self[key] = key
        return key


def _wrong_answers(path: Path, number: int, record: dict[str, Any]) -> DataError:
    raw = record.get("answers")
    if type(raw) is not list:
        return _wrong(path, number, record, "answers", "a list")
    where = f"{path}, record {number} (question_id {record['question_id']})"
    for place, item in enumerate(raw, 1):
        if type(item) is not dict or type(item.get("answer")) is not str:
            found = (
                kind_of(item) if type(item) is not dict or "answer" not in item else f"answer {kind_of(item['answer'])}"
            )
            return DataError(
                f"{where}: entry {place} of answers is {found}; an object with the string `answer` is expected."
            )
    return DataError(
        f"{where}: {len(raw)} answers; {ANSWERS} are expected.",
        why="The score compares a prediction with ten people's answers.",
        next="repeat a single reference answer ten times: accuracy is then exact match",
    )


def _id(path: Path, number: int, record: dict[str, Any], field: str) -> int:
    value = record.get(field)
    if not is_id(value):
        raise _wrong(path, number, record, field, "a whole number from 0 to 2^63 - 1")
    assert isinstance(value, int)
    return value


def _wrong(path: Path, number: int, record: Container[str], field: str, expected: str) -> DataError:
    found = kind_of(record[field]) if isinstance(record, dict) and field in record else "missing"
    return DataError(f"{path}, record {number}: {field} is {found}; {expected} is expected.")


def _checked(limit: int) -> int:
    if limit < 1:
        raise UsageError(f"A limit of {limit} questions leaves none.", next="--limit 100")
    return limit


def _no_folder(path: Path, ref: str | None) -> DataError:
    below = [home / "data" for home in homes()]
    known = sorted({folder.name for data in below if data.is_dir() for folder in data.iterdir() if folder.is_dir()})
    by_name = path.parent in below
    default = f"Without --data it is {DEFAULT}. " if ref is None else ""
    get = f"umecache data get {DEFAULT} fetches it, " if by_name and path.name == DEFAULT else ""
    return DataError(
        f"There is no data folder {path}."
        if ref is None or not by_name
        else f"There is no data folder {ref!r}, neither here nor below {path.parent}.",
        why=f"{default}Data sets below {' and '.join(map(str, below))}: {', '.join(known) or 'none'}.",
        next=f"{get}umecache data sample draws a small one, --data DIR names a folder of yours",
    )
