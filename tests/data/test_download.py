"""`data get` against a server on this machine: parts, resume, counts, pins, locks."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from umecache.data.catalogue import Archive
from umecache.data.dataset import open_dataset
from umecache.data.download import Fetched, get
from umecache.data.fetch import FetchOptions
from umecache.errors import DataError, JobFailed, UnknownName, UsageError

CATALOGUE = (
    Archive("http://q", "q_train.zip", "questions", ("train",), 10**6, {"questions_train.json": 4}),
    Archive("http://q", "q_test.zip", "questions", ("test", "test-dev"), 10**6, {"questions_test.json": 2}),
    Archive("http://a", "a_train.zip", "annotations", ("train",), 10**6, {"annotations_train.json": 4}),
    Archive("http://i", "train2014.zip", "images", ("train",), 10**6, {"images": 2}),
)


def zip_bytes(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def records(kind: str, count: int) -> bytes:
    fields: list[dict[str, Any]] = [
        {"question_id": n, "image_id": n // 2, "question": "?", "answers": [{"answer": "yes"}] * 10}
        for n in range(count)
    ]
    return json.dumps({kind: fields}).encode()


@pytest.fixture
def mirror(site: Any) -> Any:
    site.files = {
        "q_train.zip": zip_bytes({"questions_train.json": records("questions", 4)}),
        "q_test.zip": zip_bytes({"questions_test.json": records("questions", 2)}),
        "a_train.zip": zip_bytes({"annotations_train.json": records("annotations", 4)}),
        "train2014.zip": zip_bytes({f"images/COCO_{n:012d}.jpg": bytes(400) for n in range(2)}),
    }
    return site


def run(
    mirror: Any, out: Path | None = None, *, retries: int = 2, splits: Sequence[str] = ("train",), **options: Any
) -> tuple[Path, list[Fetched]]:
    fetching = FetchOptions(retries=retries, sleep=lambda seconds: None, timeout=5.0)
    options = {"base_url": mirror.address, "archives": CATALOGUE, **options}
    return get("vqa-v2", splits=splits, out=out, options=fetching, **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_arrives_is_a_data_folder(mirror: Any, private_home: Path) -> None:
    folder, fetched = run(mirror)
    assert folder == private_home / "data" / "vqa-v2"
    assert names(folder) == ["annotations_train.json", "downloads.json", "images", "questions_train.json"]
    split = open_dataset(None).split("train")
    assert len(split.questions) == 4 and split.missing_images == () and split.annotations
    assert [(entry.archive, entry.status) for entry in fetched] == [
        ("q_train.zip", "fetched"),
        ("a_train.zip", "fetched"),
        ("train2014.zip", "fetched"),
    ]
    archive = mirror.files["a_train.zip"]
    assert fetched[1].to_json() == {
        "archive": "a_train.zip",
        "status": "fetched",
        "url": f"{mirror.address}/a_train.zip",
        "bytes": len(archive),
        "sha256": hashlib.sha256(archive).hexdigest(),
        "contents": {"annotations_train.json": 4},
    }


def test_only_the_parts_asked_for(mirror: Any, tmp_path: Path) -> None:
    run(mirror, tmp_path, parts=["questions"], splits=["test-dev"])
    assert names(tmp_path) == ["downloads.json", "questions_test.json"]
    assert {path for _, path, _ in mirror.requests} == {"/q_test.zip"}


def test_again_fetches_nothing(mirror: Any, tmp_path: Path) -> None:
    first = run(mirror, tmp_path)[1]
    mirror.requests.clear()
    again = run(mirror, tmp_path)[1]
    assert mirror.requests == []
    assert [entry.status for entry in again] == ["present"] * 3
    assert [entry.sha256 for entry in again] == [entry.sha256 for entry in first]


def test_what_is_lost_is_fetched_again(mirror: Any, tmp_path: Path) -> None:
    run(mirror, tmp_path)
    (tmp_path / "images" / "COCO_000000000001.jpg").unlink()
    (tmp_path / "annotations_train.json").unlink()
    again = run(mirror, tmp_path)[1]
    assert [entry.status for entry in again] == ["present", "fetched", "fetched"]
    assert open_dataset(tmp_path).split("train").missing_images == ()


def test_files_that_came_otherwise_are_taken_if_they_are_whole(mirror: Any, tmp_path: Path) -> None:
    (tmp_path / "questions_train.json").write_bytes(records("questions", 4))
    (tmp_path / "annotations_train.json").write_bytes(records("annotations", 4)[:-9])
    entries = run(mirror, tmp_path, parts=["questions", "annotations"])[1]
    assert [(entry.status, entry.sha256 is None) for entry in entries] == [("present", True), ("fetched", False)]
    assert open_dataset(tmp_path).split("train").annotations


def test_a_stop_half_way_goes_on_there(mirror: Any, tmp_path: Path) -> None:
    mirror.drops = [100, 0, 0]
    with pytest.raises(JobFailed, match="goes on from there"):
        run(mirror, tmp_path, retries=1)
    mirror.requests.clear()
    mirror.drops = []
    run(mirror, tmp_path)
    assert mirror.gets("q_train.zip") == ["bytes=100-"]
    assert names(tmp_path) == ["annotations_train.json", "downloads.json", "images", "questions_train.json"]


def test_an_archive_that_was_fetched_but_not_unpacked(mirror: Any, tmp_path: Path) -> None:
    (tmp_path / "q_train.zip").write_bytes(mirror.files["q_train.zip"])
    run(mirror, tmp_path, parts=["questions"])
    assert mirror.gets("q_train.zip") == []
    assert (tmp_path / "questions_train.json").exists()


def test_a_truncated_archive_is_thrown_away(mirror: Any, tmp_path: Path) -> None:
    whole = mirror.files["train2014.zip"]
    mirror.files["train2014.zip"] = whole[:-30]  # and the server says that this is all
    with pytest.raises(JobFailed, match=r"train2014\.zip is cut short or damaged.*fetches the archive anew"):
        run(mirror, tmp_path)
    assert "images" not in names(tmp_path) and "train2014.zip" not in names(tmp_path)
    mirror.files["train2014.zip"] = whole
    assert [entry.status for entry in run(mirror, tmp_path)[1]] == ["present", "present", "fetched"]


@pytest.mark.parametrize("count", [3, 5])
def test_other_counts_are_refused(mirror: Any, tmp_path: Path, count: int) -> None:
    mirror.files["q_train.zip"] = zip_bytes({"questions_train.json": records("questions", count)})
    with pytest.raises(JobFailed, match=f"holds {count} records .*questions_train.json; 4 are expected"):
        run(mirror, tmp_path)
    assert names(tmp_path) == []


def test_a_page_of_words_instead_of_an_archive(mirror: Any, tmp_path: Path) -> None:
    mirror.files["q_train.zip"] = b"<html>please log in</html>"
    with pytest.raises(JobFailed, match=r"not a zip file.*It came from http"):
        run(mirror, tmp_path)


def test_broken_json_inside(mirror: Any, tmp_path: Path) -> None:
    mirror.files["q_train.zip"] = zip_bytes({"questions_train.json": records("questions", 4)[:-5]})
    with pytest.raises(JobFailed, match="no proper JSON"):
        run(mirror, tmp_path)
    assert names(tmp_path) == []


def test_a_pinned_archive_that_differs_is_refused(mirror: Any, tmp_path: Path) -> None:
    run(mirror, tmp_path / "one", parts=["questions"])
    (tmp_path / "two").mkdir()
    pins = (tmp_path / "one" / "downloads.json").read_text()
    (tmp_path / "two" / "downloads.json").write_text(pins)
    good = mirror.files["q_train.zip"]
    mirror.files["q_train.zip"] = zip_bytes({"questions_train.json": records("questions", 4) + b" "})
    with pytest.raises(JobFailed, match=r"has the sha256 .*downloads\.json says .*take its entry out"):
        run(mirror, tmp_path / "two", parts=["questions"])
    assert names(tmp_path / "two") == ["downloads.json"]
    mirror.files["q_train.zip"] = good
    assert run(mirror, tmp_path / "two", parts=["questions"])[1][0].status == "fetched"


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"url": "x", "bytes": "1", "sha256": "y"}}'])
def test_notes_that_are_none(mirror: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "downloads.json").write_text(text)
    with pytest.raises(DataError, match=r"downloads\.json"):
        run(mirror, tmp_path)


def test_archives_can_be_kept(mirror: Any, tmp_path: Path) -> None:
    run(mirror, tmp_path, parts=["questions"], keep_archives=True)
    assert names(tmp_path) == ["downloads.json", "q_train.zip", "questions_train.json"]


def test_the_disk_is_asked_before_anything_is_fetched(mirror: Any, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match=r"GB of disk at its peak.*make room"):
        run(mirror, tmp_path, free=lambda folder: 1000)
    assert {method for method, _, _ in mirror.requests} == {"HEAD"}
    assert names(tmp_path) == []


def test_several_at_once_share_the_work(mirror: Any, tmp_path: Path) -> None:
    outcomes: list[list[Fetched] | Exception] = []

    def one() -> None:
        try:
            outcomes.append(run(mirror, tmp_path)[1])
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("q_train.zip", "a_train.zip", "train2014.zip"):
        assert len(mirror.gets(name)) == 1
    statuses = [entry.status for outcome in outcomes if isinstance(outcome, list) for entry in outcome]
    assert sorted(statuses) == ["fetched"] * 3 + ["present"] * 9, outcomes
    assert names(tmp_path) == ["annotations_train.json", "downloads.json", "images", "questions_train.json"]


def test_mistakes(mirror: Any, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'vqa-v2'"):
        get("vqa_v2")
    with pytest.raises(UnknownName, match="Unknown split"):
        run(mirror, splits=["trian"])
    with pytest.raises(UsageError, match="no http or https address"):
        run(mirror, tmp_path, base_url="/some/folder")
    (tmp_path / "file").write_text("")
    with pytest.raises(JobFailed, match="can't be made"):
        run(mirror, tmp_path / "file")
    with pytest.raises(JobFailed, match="the server says 404"):
        run(mirror, tmp_path, base_url=f"{mirror.address}/elsewhere")
