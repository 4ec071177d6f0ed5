"""What `umecache data get` can fetch: archives, the files in them, and how many records each must hold.

VQA v2 (Goyal et al., CVPR 2017, arXiv:1612.00837; visualqa.org/download.html), questions and annotations CC BY 4.0;
COCO images under their photographers' Flickr terms. No official checksums exist, so counts are checked. Sizes are
round figures, for the disk-space check before anything is fetched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from umecache.errors import UnknownName

Part = Literal["questions", "annotations", "images"]
PARTS: tuple[Part, ...] = ("questions", "annotations", "images")
_VQA = "https://cvmlp.s3.amazonaws.com/vqa/mscoco/vqa"
_COCO = "http://images.cocodataset.org/zips"


@dataclass(frozen=True, slots=True)
class Archive:
    """One zip file.

    Attributes:
        base: URL of the folder it is in.
        name: its file name there.
        part: what it holds.
        splits: which splits it is needed for.
        unpacked: bytes it takes unpacked, about.
        contents: file (a JSON file of records) or folder (of images) in it -> how many records or images.
    """

    base: str
    name: str
    part: Part
    splits: tuple[str, ...]
    unpacked: int
    contents: dict[str, int]


VQA_V2 = (
    Archive(
        _VQA,
        "v2_Questions_Train_mscoco.zip",
        "questions",
        ("train",),
        45_000_000,
        {"v2_OpenEnded_mscoco_train2014_questions.json": 443_757},
    ),
    Archive(
        _VQA,
        "v2_Questions_Val_mscoco.zip",
        "questions",
        ("val",),
        22_000_000,
        {"v2_OpenEnded_mscoco_val2014_questions.json": 214_354},
    ),
    Archive(
        _VQA,
        "v2_Questions_Test_mscoco.zip",
        "questions",
        ("test", "test-dev"),
        57_000_000,
        {
            "v2_OpenEnded_mscoco_test2015_questions.json": 447_793,
            "v2_OpenEnded_mscoco_test-dev2015_questions.json": 107_394,
        },
    ),
    Archive(
        _VQA,
        "v2_Annotations_Train_mscoco.zip",
        "annotations",
        ("train",),
        385_000_000,
        {"v2_mscoco_train2014_annotations.json": 443_757},
    ),
    Archive(
        _VQA,
        "v2_Annotations_Val_mscoco.zip",
        "annotations",
        ("val",),
        190_000_000,
        {"v2_mscoco_val2014_annotations.json": 214_354},
    ),
    Archive(_COCO, "train2014.zip", "images", ("train",), 13_600_000_000, {"train2014": 82_783}),
    Archive(_COCO, "val2014.zip", "images", ("val",), 6_700_000_000, {"val2014": 40_504}),
    Archive(_COCO, "test2015.zip", "images", ("test", "test-dev"), 13_300_000_000, {"test2015": 81_434}),
)

DATASETS = {"vqa-v2": VQA_V2}


def select(
    archives: Iterable[Archive], splits: Iterable[str], parts: Iterable[str], *, listing: str
) -> tuple[Archive, ...]:
    """The archives that some splits and parts need.

    Raises:
        UnknownName: a split or part that no archive is for.
    """
    archives, splits, parts = tuple(archives), tuple(splits), tuple(parts)
    known = {split for archive in archives for split in archive.splits}
    for split in splits:
        if split not in known:
            raise UnknownName("split", split, known, listing=listing)
    for part in parts:
        if part not in PARTS:
            raise UnknownName("part", part, PARTS, listing=listing)
    return tuple(a for a in archives if a.part in parts and set(a.splits) & set(splits))
