"""`fuse` on stores read from where they are: what the disk gives, bit for bit, and only the shards it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sharing.services import Bucket, bucket, s3_endpoint
from tests.sharing.site import Site
from umecache.analysis.inputs import open_inputs
from umecache.cli.app import run as main
from umecache.data.dataset import open_dataset
from umecache.errors import JobFailed
from umecache.sharing import fetch
from umecache.sharing.push import push
from umecache.sharing.reading import open_splits
from umecache.stores import open_store, open_writer
from umecache.stores.repair import writer_arguments
from umecache.training.config import FuseConfig
from umecache.training.fuse import fuse
from umecache.training.refs import store_ref
from umecache.training.runs import load_run
from umecache.training.splits import answer_split

__all__ = ["bucket", "s3_endpoint"]  # fixtures of services.py


@pytest.fixture
def site(world: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    assert world.text.parent == world.image.parent
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    with Site(world.text.parent) as running:
        yield running


def config(world: Any, text: str, image: str, out: Path, **said: Any) -> FuseConfig:
    quick: dict[str, Any] = {"width": 16, "batch_size": 32, "epochs": 2, "method": "ume"}
    return FuseConfig(data=str(world.data), text=text, image=image, out=str(out), **{**quick, **said})


def far(site: Site, world: Any) -> tuple[str, str]:
    return f"{site.url}/{world.text.name}", f"{site.url}/{world.image.name}"


def weights(run: Path) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in run.rglob("*.safetensors")}
    found |= {path.name: path.read_bytes() for path in run.rglob("results_*.json")}
    assert len(found) > 1
    return found


@pytest.mark.parametrize("residency", ["memory", "store"])
def test_the_same_as_from_disk(world: Any, site: Site, tmp_path: Path, residency: str) -> None:
    here = fuse(config(world, str(world.text), str(world.image), tmp_path / "here", residency=residency))
    there = fuse(config(world, *far(site, world), tmp_path / "there", residency=residency))
    assert weights(here.path) == weights(there.path)
    assert here.document["accuracy"] == there.document["accuracy"]
    run = load_run(there.path)
    (text, _) = run.facts["features"]
    assert text["stores"]["val"]["path"] == f"{site.url}/{world.text.name}/val"
    assert answer_split(run, "val").by_question == answer_split(load_run(here.path), "val").by_question
    assert open_inputs(run).split.name == "val"


def in_small_shards(source: Path, target: Path) -> Path:
    """The same store in shards of four records."""
    store = open_store(source)
    writer = open_writer(target, **{**writer_arguments(store), "shard_records": 4})
    for shard in writer.claim():
        with shard:
            for row in shard.records:
                shard.write_stored(row, store.stored(int(store.starts[row]), int(store.lengths[row])))
    writer.seal()
    return target


def test_a_limited_run_fetches_what_it_needs(world: Any, tmp_path: Path) -> None:
    for split in ("train", "val"):
        in_small_shards(world.image / split, tmp_path / "served/vit" / split)
    with Site(tmp_path / "served") as site:
        fuse(config(world, str(world.text), f"{site.url}/vit", tmp_path / "run", limit=6))
        came = [name for name in site.fetched() if "/tokens/c/" in name]
    needed = set()
    for split in open_dataset(world.data).split("train", limit=6), open_dataset(world.data).split("val", limit=6):
        store = open_store(tmp_path / "served/vit" / split.name)
        rows = store.rows([question.image_id for question in split.questions])
        shards = set((store.starts[rows] // store.manifest["layout"]["shard_rows"]).tolist())
        assert len(shards) < len(store.manifest["layout"]["shards"]) // 2
        needed |= {f"vit/{split.name}/tokens/c/{k}/0" for k in shards}
    assert sorted(came) == sorted(needed)


def test_a_network_that_dies(world: Any, site: Site, tmp_path: Path) -> None:
    manifest = open_store(world.image / "train").manifest
    name = f"{world.image.name}/train/{manifest['layout']['shards'][-1]['files'][0]['path']}"
    site.broken[name] = 503
    said = config(world, *far(site, world), tmp_path / "run")
    with pytest.raises(JobFailed, match=f"{name}: 503"):
        fuse(said)
    site.broken.clear()
    before = set(site.fetched())
    site.requests.clear()
    assert fuse(said).document["accuracy"]
    again = {each for each in site.fetched() if not each.endswith(("CHECKSUMS", "stores.json"))} & before
    assert again == {name}  # all else was kept


SECRET = "token=s3cret"


def holds(folder: Path, secret: bytes) -> list[str]:
    """Files that hold it, or are called so."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if secret in path.read_bytes() or secret.decode() in str(path)]


def test_a_secret_is_never_written_down(
    world: Any, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UMECACHE_HOME", str(tmp_path / "home"))
    site.secret = SECRET
    text, image = (f"{url}?{SECRET}" for url in far(site, world))
    words = ["--data", str(world.data), "--text", text, "--image", image, "--epochs", "1", "--width", "8"]
    assert main(["fuse", "--method", "ume", *words, "--seeds", "2", "--out", str(tmp_path / "run")]) == 0
    assert main(["compare", "--methods", "concat,product", *words, "--out", str(tmp_path / "compare")]) == 0
    assert main(["pretrain", "--method", "ume", *words, "--out", str(tmp_path / "pre"), "--json"]) == 0
    answer = ["predict", str(tmp_path / "run"), "--split", "val"]
    assert main(answer) == 1
    said = capfd.readouterr()
    assert "UMECACHE_URLS" in said.err
    again = ["--features", f"text={text}", "--features", f"image={image}"]
    assert main([*answer, *again]) == 0
    assert main(["explain", str(tmp_path / "run"), "--out", str(tmp_path / "e.json"), *again]) == 0
    monkeypatch.setenv("UMECACHE_URLS", f"{site.url}?{SECRET}")
    assert main([*answer, "--json"]) == 0
    assert main(["explain", str(tmp_path / "run"), "--out", str(tmp_path / "f.json")]) == 0
    said_too = capfd.readouterr()
    assert site.requests
    for heard in (*said, *said_too):
        assert "s3cret" not in heard
    assert holds(tmp_path, b"s3cret") == []


def test_an_open_store_with_a_secret(world: Any, site: Site, tmp_path: Path) -> None:
    site.secret = SECRET
    text, image = (open_splits(f"{url}?{SECRET}", ("train", "val"))["val"] for url in far(site, world))
    assert store_ref(image) == f"{far(site, world)[1]}?{SECRET}"
    assert fuse(config(world, store_ref(text), store_ref(image), tmp_path / "run", epochs=1)).document["accuracy"]
    assert holds(tmp_path, b"s3cret") == []


def test_straight_from_s3(world: Any, bucket: Bucket, tmp_path: Path) -> None:
    """Another kind of server, and the command as it is typed; what the disk gives, bit for bit."""
    for each in (world.text, world.image):
        push(each, f"{bucket.url}/{each.name}")
    here = fuse(config(world, str(world.text), str(world.image), tmp_path / "here"))
    words = ["--text", f"{bucket.url}/{world.text.name}", "--image", f"{bucket.url}/{world.image.name}"]
    words += ["--width", "16", "--batch-size", "32", "--epochs", "2", "--method", "ume", "--data", str(world.data)]
    assert main(["fuse", *words, "--out", str(tmp_path / "there")]) == 0
    assert weights(here.path) == weights(tmp_path / "there")
    run = load_run(tmp_path / "there")
    assert run.facts["features"][1]["stores"]["val"]["path"] == f"{bucket.url}/{world.image.name}/val"
    assert answer_split(run, "val").by_question == answer_split(load_run(here.path), "val").by_question
