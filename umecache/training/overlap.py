"""What two splits share, told by content: an accuracy on what a head was trained on says nothing.

    refuse_shared_questions(train, evaluation)
    shared_inputs(train, evaluation)        # a sentence, where they share images, sounds or wordings of both

Numbers alone can't tell: they may start anew in each split, and one question may come twice under two of them. An image
or a sound is its id where files are found by ids (VQA), and its file where items name files.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

from umecache.data.dataset import Question, Split
from umecache.errors import DataError

Key = int | str | None
Content = tuple[Key, Key, str]
"""Image, sound, words."""


def refuse_shared_questions(train: Split, evaluation: Split) -> None:
    """Refuse splits that have a question in common: the same id, image, sound and words.

    Raises:
        DataError: with their number and the first.
    """
    known = {(question.id, content) for question, content in _contents(train)}
    shared = [question.id for question, content in _contents(evaluation) if (question.id, content) in known]
    if shared:
        raise DataError(
            f"{len(shared):,} questions of {evaluation.name!r} are in {train.name!r} too (first: {shared[0]}).",
            why="An accuracy on the questions that a head was trained on says nothing.",
            next="umecache data split DIR --by image --fraction 0.1 makes splits that share none",
        )


def shared_inputs(train: Split, evaluation: Split) -> tuple[str, ...]:
    """A sentence on what both splits have; nothing where all is apart."""
    ours = [content for _, content in _contents(train)]
    theirs = [content for _, content in _contents(evaluation)]
    named = "files" if train.names_files else "ids"
    told = []
    for place, kind in enumerate(("image", "sound")):
        if common := {each[place] for each in ours} & {each[place] for each in theirs} - {None}:
            told.append(f"{len(common):,} {kind} {named}")
    known = set(ours)
    if again := sum(content in known for content in theirs):
        told.append(f"{again:,} questions that are in both word for word, under other ids")
    if not told:
        return ()
    return (f"{train.name} and {evaluation.name} share {', and '.join(told)}: accuracy may flatter every method.",)


def _contents(split: Split) -> list[tuple[Question, Content]]:
    image, sound = _keys(split, "image"), _keys(split, "audio")
    return [
        (each, (image(each.image_id), sound(each.audio_id), " ".join(each.text.lower().split())))
        for each in split.questions
    ]


def _keys(split: Split, modality: str) -> Callable[[int | None], Key]:
    """What tells one image (or sound) of a split from another, also of another split."""
    if not split.names_files:
        return lambda number: number

    @cache
    def key(number: int | None) -> Key:
        file = None if number is None else split.named_file(modality, number)
        return None if file is None else os.path.realpath(file)

    return key
