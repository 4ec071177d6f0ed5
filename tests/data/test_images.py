"""An image belongs to an id by the trailing digits of its file name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umecache.data.images import ImageIndex, image_id_of
from umecache.errors import DataError


@pytest.mark.parametrize(
    ("name", "image_id"),
    [
        ("COCO_train2014_000000000025.jpg", 25),
        ("000000000000.png", 0),
        ("25.JPEG", 25),
        ("a.b-7.webp", 7),
        ("frame12x34.tiff", 34),
        ("._COCO_train2014_000000000025.jpg", None),  # what macOS leaves behind
        (".25.jpg", None),
        ("25", None),
        ("25.txt", None),
        ("25.jpg.part", None),
        ("COCO_25 (1).jpg", None),
        ("cat.jpg", None),
        ("٣.jpg", None),
        ("", None),
    ],
)
def test_id_of_a_name(name: str, image_id: int | None) -> None:
    assert image_id_of(name) == image_id


@given(st.integers(0, 2**63 - 1), st.text("abc_-.", max_size=5), st.sampled_from(["jpg", "PNG", "bmp", "gif", "tif"]))
def test_any_padding_and_prefix(image_id: int, prefix: str, kind: str) -> None:
    assert image_id_of(f"x{prefix}{image_id:012d}.{kind}") == image_id


def test_folders_are_searched_in_order(tmp_path: Path) -> None:
    for name in ("first/1.jpg", "second/1.jpg", "second/2.jpg", "second/deep/3.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"")
    index = ImageIndex([tmp_path / "absent", tmp_path / "first", tmp_path / "second"])
    assert index.path(1) == tmp_path / "first/1.jpg"
    assert index.path(2) == tmp_path / "second/2.jpg"
    assert index.path(3) is None and 3 not in index
    assert 1 in index and 2 in index
    index.check([1, 2, 3])


def test_links_folders_and_links_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(b"")
    (tmp_path / "1.jpg").symlink_to(tmp_path / "real.bin")
    (tmp_path / "2.jpg").symlink_to(tmp_path / "gone")
    (tmp_path / "3.jpg").mkdir()
    index = ImageIndex([tmp_path])
    assert [image_id for image_id in (1, 2, 3) if image_id in index] == [1]


def test_two_files_for_an_id_that_is_needed(tmp_path: Path) -> None:
    for name in ("7.png", "a7.jpg", "b07.jpg", "8.jpg"):
        (tmp_path / name).write_bytes(b"")
    index = ImageIndex([tmp_path])
    index.check([8, 9])
    with pytest.raises(DataError, match=r"two files for image 7: .*7.* and .*7"):
        index.check([8, 7])


def test_listed_once_and_only_when_asked(tmp_path: Path) -> None:
    index = ImageIndex([tmp_path / "images"])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(b"")
    assert 1 in index
    (tmp_path / "images" / "2.jpg").write_bytes(b"")
    assert 2 not in index


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(b"")
    with pytest.raises(DataError, match="is a file; a folder of images is expected"):
        assert 1 in ImageIndex([tmp_path / "images"])
