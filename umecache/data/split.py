"""Hold out part of a split, so that choices are not made on the split that is reported.

    umecache data split DIR --by image --fraction 0.1 --seed 0

Writes a new folder: a `dataset.toml`, and questions and annotations of the two parts, records as they were. Images
are referred to where they are, never copied; the source is only read. By image, no image of one part is in the other:
questions about one image share its answers, so a split by question lets a model recognise images it was trained on.

An image (or question) is held out by the sha256 of seed and id: the choice is the same on every machine and version,
and does not hang on the order of files.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umecache.data.dataset import Dataset
from umecache.data.layout import TOML, SplitFiles
from umecache.data.records import read_records
from umecache.errors import DataError, JobFailed, UnknownName, UsageError
from umecache.home import data_home
from umecache.reporting import Reporter

BY = ("image", "question")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Part:
    """One of the two parts.

    Attributes:
        questions, images: how many; by question, the parts share images.
    """

    name: str
    questions: int
    images: int


def divide_split(
    dataset: Dataset,
    *,
    split: str = "train",
    names: tuple[str, str] = ("train", "heldout"),
    by: str = "image",
    fraction: float = 0.1,
    seed: int = 0,
    out: Path | None = None,
    reporter: Reporter | None = None,
) -> tuple[Path, list[Part]]:
    """Divide a split in two and write the parts, with the other splits as they are, as a new data folder.

    Args:
        dataset: the source.
        split: which split to divide.
        names: what to call the parts: the larger one, the held-out one.
        by: what is held out: images with all their questions, or questions.
        fraction: how much, 0 to 1 (exclusive); rounded to whole images or questions, at least one.
        seed: another seed, another choice.
        out: the new folder; by default under `UMECACHE_HOME/data`, named after the source and the choice.

    Returns:
        The folder and its two parts.

    Raises:
        UsageError: a fraction that leaves a part empty, names that clash, a folder that holds something else.
        DataError: the source is wrong.
    """
    if by not in BY:
        raise UnknownName("--by", by, BY, listing="umecache data split --help")
    if not 0 < fraction < 1:
        raise UsageError(f"--fraction {fraction} leaves nothing to divide.", why="It must lie between 0 and 1.")
    others = {name: files for name, files in dataset.files.items() if name != split}
    if split in dataset.files and dataset.files[split].items:
        raise UsageError(
            f"{dataset.files[split].questions} is a file of items; what is divided is a file of questions.",
            next="divide its lines into items_train.jsonl and items_heldout.jsonl",
        )
    source = dataset.split(split, reporter=reporter)
    _check_names(names, others)
    ids = [q.id for q in source.questions] if by == "question" else list(source.image_ids)
    if len(ids) < 2:
        raise DataError(f"The split {split!r} of {source.folder} has one {by}; nothing can be held out.")
    held = set(choose(ids, fraction, seed))
    part_of = {q.id: (q.id if by == "question" else q.image_id) in held for q in source.questions}

    if out is None:
        out = data_home() / f"{dataset.name}-{split}-by-{by}-{fraction:g}-seed{seed}"
    out = out.expanduser().absolute()
    if out.resolve().is_relative_to(dataset.folder.resolve()):
        raise UsageError(
            f"{out} lies inside the source.", why="The source is never changed.", next="--out DIR elsewhere"
        )
    note = (
        f"{fraction:g} of the {by}s of split {split!r} of {dataset.folder}, held out with seed {seed}\n"
        "# by `umecache data split`. Images are referred to where they are."
    )
    toml = _toml(note, names, dataset.files[split], others)
    with _new_folder(out) as building:
        for kind, path in (
            ("questions", dataset.files[split].questions),
            ("annotations", dataset.files[split].annotations),
        ):
            if path is not None:
                targets = [building / f"{kind}_{name}.json" for name in names]
                _divide(path, kind, targets, part_of, reporter)
        (building / TOML).write_text(toml, encoding="utf-8")
    return out, [
        Part(
            name,
            sum(is_held == bool(position) for is_held in part_of.values()),
            len({q.image_id for q in source.questions if part_of[q.id] == bool(position)}),
        )
        for position, name in enumerate(names)
    ]


def choose(ids: Iterable[int], fraction: float, seed: int) -> list[int]:
    """A share of the ids, at least one and not all: those whose sha256 with the seed is smallest."""
    ranked = sorted(set(ids), key=lambda item: (hashlib.sha256(f"{seed}:{item}".encode()).digest(), item))
    return ranked[: min(max(round(fraction * len(ranked)), 1), len(ranked) - 1)]


def _divide(
    path: Path, kind: str, targets: Sequence[Path], part_of: Mapping[int, bool], reporter: Reporter | None
) -> None:
    """Copy each record of a file to the part it belongs to; the other top-level entries (info, license) to both."""
    header: dict[str, Any] = {}
    with ExitStack() as stack:
        files = [stack.enter_context(target.open("w", encoding="utf-8")) for target in targets]
        starts = [f'{{"{kind}": [\n', f'{{"{kind}": [\n']
        for _, record in read_records(path, kind, header=header, reporter=reporter):
            part = part_of[record["question_id"]]
            files[part].write(starts[part] + json.dumps(record))
            starts[part] = ",\n"
        entries = "".join(f", {json.dumps(key)}: {json.dumps(value)}" for key, value in header.items())
        for file in files:
            file.write(f"]{entries}}}\n")


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder to write in, which becomes `out` as a whole when nothing failed.

    Running the same command again is fine; anything else in `out` is not ours to overwrite.
    """
    building = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    try:
        building.mkdir(parents=True)
        yield building
        if not out.exists() or (out.is_dir() and not any(out.iterdir())):
            building.replace(out)
            return
        names = sorted(path.name for path in building.iterdir())
        same = out.is_dir() and sorted(path.name for path in out.iterdir()) == names
        if not same or filecmp.cmpfiles(building, out, names, shallow=False)[0] != names:
            raise UsageError(f"{out} holds something else already.", next="--out DIR with a new folder")
    except OSError as error:
        raise JobFailed(f"{out} can't be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _toml(note: str, names: tuple[str, str], divided: SplitFiles, others: Mapping[str, SplitFiles]) -> str:
    lines = [f"# {note}"]
    for part in names:
        lines += ["", f"[splits.{part}]", f'questions = "questions_{part}.json"']
        if divided.annotations is not None:
            lines.append(f'annotations = "annotations_{part}.json"')
        lines.append(f"images = [{', '.join(_quoted(folder) for folder in divided.images)}]")
    for other in others.values():
        lines += ["", f"[splits.{_quoted(other.name)}]", f"questions = {_quoted(other.questions)}"]
        if other.annotations is not None:
            lines.append(f"annotations = {_quoted(other.annotations)}")
        lines.append(f"images = [{', '.join(_quoted(folder) for folder in other.images)}]")
    return "\n".join(lines) + "\n"


def _quoted(value: object) -> str:
    return json.dumps(str(value), ensure_ascii=False)  # a JSON string is a TOML basic string


def _check_names(names: tuple[str, str], others: Mapping[str, SplitFiles]) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise UsageError(f"--names: {name!r} can't name a split.", next="--names train,heldout")
        if name in others:
            raise UsageError(f"--names: the source already has a split {name!r}.", next="--names train,heldout")
    if names[0] == names[1]:
        raise UsageError(f"--names: the two parts can't both be {names[0]!r}.", next="--names train,heldout")
