"""Archives that are cut short, damaged, miscounted or hostile leave nothing behind."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from pathlib import Path

import pytest

from umecache.data.unpack import BadArchive, count_contents, free_bytes, unpack
from umecache.errors import DataError, JobFailed

IMAGES = {f"train2014/COCO_train2014_{n:012d}.jpg": bytes([n]) * 500 for n in range(1, 6)}
QUESTIONS = {"q_questions.json": json.dumps({"questions": [{"a": n} for n in range(7)]}).encode()}


def zipped(path: Path, members: dict[str, bytes] | list[tuple[zipfile.ZipInfo | str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items() if isinstance(members, dict) else members:
            file.writestr(name, data)
    return path


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


def test_images(tmp_path: Path, folder: Path) -> None:
    extra = {"__MACOSX/train2014/._COCO_train2014_000000000001.jpg": b"", "README.txt": b"hello"}
    archive = zipped(tmp_path / "a.zip", {"train2014/": b"", **IMAGES, **extra})
    unpack(archive, folder, {"train2014": 5})
    assert listing(folder) == sorted(IMAGES)
    assert (folder / "train2014/COCO_train2014_000000000003.jpg").read_bytes() == b"\3" * 500
    assert count_contents(folder / "train2014") == 5


def test_records(tmp_path: Path, folder: Path) -> None:
    archive = zipped(tmp_path / "a.zip", QUESTIONS)
    unpack(archive, folder, {"q_questions.json": 7})
    assert count_contents(folder / "q_questions.json") == 7
    assert count_contents(folder / "nothing.json") is None


def test_what_is_there_already_is_replaced(tmp_path: Path, folder: Path) -> None:
    (folder / "train2014").mkdir()
    (folder / "train2014/COCO_train2014_000000000001.jpg").write_bytes(b"half")
    (folder / "q_questions.json").write_text("half")
    (folder / ".a.zip.unpacking").mkdir()  # of a run that was killed
    (folder / ".a.zip.unpacking" / "train2014").mkdir()
    unpack(zipped(tmp_path / "a.zip", {**IMAGES, **QUESTIONS}), folder, {"train2014": 5, "q_questions.json": 7})
    assert listing(folder) == sorted([*IMAGES, *QUESTIONS])
    assert (folder / "train2014/COCO_train2014_000000000001.jpg").read_bytes() == b"\1" * 500


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_cut_short(tmp_path: Path, folder: Path, keep: float) -> None:
    archive = zipped(tmp_path / "a.zip", IMAGES)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(BadArchive, match="cut short or damaged") as caught:
        unpack(archive, folder, {"train2014": 5})
    assert caught.value.exit_status == 1
    assert listing(folder) == []


def test_damaged_inside(tmp_path: Path, folder: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for name, data in IMAGES.items():
            file.writestr(name, data)
    damaged = archive.read_bytes().replace(b"\3" * 500, b"\3" * 499 + b"\4")
    archive.write_bytes(damaged)
    with pytest.raises(BadArchive, match="Bad CRC"):
        unpack(archive, folder, {"train2014": 5})
    assert listing(folder) == []


@pytest.mark.parametrize(
    ("members", "contents", "says"),
    [
        (IMAGES, {"train2014": 6}, "holds 5 images in train2014; 6 are expected"),
        (IMAGES, {"val2014": 5}, "holds no val2014"),
        (QUESTIONS, {"q_questions.json": 8}, "holds 7 records or images in q_questions.json; 8"),
        ({"train2014": b"a file"}, {"train2014": 1}, "train2014 is no proper JSON"),
    ],
)
def test_other_counts(
    tmp_path: Path, folder: Path, members: dict[str, bytes], contents: dict[str, int], says: str
) -> None:
    archive = zipped(tmp_path / "a.zip", members)
    with pytest.raises((BadArchive, DataError), match=says):
        unpack(archive, folder, contents)
    assert listing(folder) == []


def test_no_proper_json(tmp_path: Path, folder: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"q_questions.json": b'{"questions": [{"a": 1}'})
    with pytest.raises(DataError, match="no proper JSON"):
        unpack(archive, folder, {"q_questions.json": 1})
    assert listing(folder) == []


@pytest.mark.parametrize(
    "name", ["../evil_1.jpg", "train2014/../../evil_1.jpg", "/evil_1.jpg", "train2014\\..\\evil_1.jpg", "C:/evil_1.jpg"]
)
def test_names_that_lead_outside(tmp_path: Path, folder: Path, name: str) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = name  # the constructor would tidy it
    archive = zipped(tmp_path / "a.zip", [*IMAGES.items(), (info, b"evil")])
    with pytest.raises(BadArchive, match="leads outside"):
        unpack(archive, folder, {"train2014": 5})
    assert listing(tmp_path) == ["a.zip"]


def test_links_in_an_archive(tmp_path: Path, folder: Path) -> None:
    info = zipfile.ZipInfo("train2014/link_6.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = zipped(tmp_path / "a.zip", [*IMAGES.items(), (info, b"/etc/passwd")])
    with pytest.raises(BadArchive, match="leads outside"):
        unpack(archive, folder, {"train2014": 6})
    assert listing(folder) == []


def test_a_name_twice(tmp_path: Path, folder: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = zipped(tmp_path / "a.zip", [*IMAGES.items(), *IMAGES.items()])
    with pytest.raises(BadArchive, match="a name twice"):
        unpack(archive, folder, {"train2014": 10})


def test_an_encrypted_archive(tmp_path: Path, folder: Path) -> None:
    archive = zipped(tmp_path / "a.zip", QUESTIONS)
    data = bytearray(archive.read_bytes())
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # set the flag in both headers
        data[data.index(mark) + at] |= 1
    archive.write_bytes(data)
    with pytest.raises(BadArchive, match="encrypted"):
        unpack(archive, folder, {"q_questions.json": 7})


def test_the_disk_is_asked_first(tmp_path: Path, folder: Path) -> None:
    archive = zipped(tmp_path / "a.zip", IMAGES)
    with pytest.raises(JobFailed, match=r"takes 0\.0 GB; .* 0\.0 GB left.*what was fetched is kept") as caught:
        unpack(archive, folder, {"train2014": 5}, free=lambda path: 2499)
    assert not isinstance(caught.value, BadArchive) and archive.exists()
    unpack(archive, folder, {"train2014": 5}, free=lambda path: 2500)
    assert free_bytes(folder) > 0


def test_writing_fails(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path / "a.zip", IMAGES)

    def full(source: io.IOBase, out: io.IOBase, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("umecache.data.unpack.shutil.copyfileobj", full)
    with pytest.raises(JobFailed, match="No space left on device"):
        unpack(archive, folder, {"train2014": 5})
    assert listing(folder) == []
