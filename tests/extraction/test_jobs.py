"""What a pass is planned to write: lengths, failures, stores that go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.encoders.broken_images import photo
from tests.extraction.conftest import MakeData
from tests.extraction.test_encode import Letters
from umecache.data.dataset import open_dataset
from umecache.encoders.base import Prepared
from umecache.encoders.registry import load_encoder
from umecache.errors import UnreadableInput
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.inputs import FileFacts, Inputs, content_digest
from umecache.extraction.jobs import plan_lengths, plan_split, prepare_texts, store_folder


class Strict(Letters):
    """Prepares texts in batches, and none of a batch that holds a question mark."""

    calls: list[int]

    def prepare_many(self, items: Sequence[str | bytes]) -> list[Prepared]:
        self.calls = [*getattr(self, "calls", []), len(items)]
        return super().prepare_many(items)


def _inputs(texts: Sequence[str]) -> Inputs:
    return Inputs(tuple(range(len(texts))), tuple(map(content_digest, texts)), texts.__getitem__)


def test_equal_texts_are_tokenized_once() -> None:
    encoder, inputs = Strict(), _inputs(["aa", "b", "aa", "b", "ccc"])
    prepared, failures = prepare_texts(encoder, inputs)
    assert (sorted(prepared), failures, encoder.calls) == ([0, 1, 4], {}, [3])
    assert plan_lengths(encoder, inputs, prepared) == [2, 1, 2, 1, 3]


def test_texts_that_are_none_fail_wherever_they_are_asked() -> None:
    encoder, inputs = Strict(), _inputs(["aa", "what?", "b", "what?"])
    prepared, failures = prepare_texts(encoder, inputs)
    assert failures == dict.fromkeys((1, 3), "has a question mark")
    failed = Inputs(inputs.ids, inputs.digests, inputs.read, failures)
    assert plan_lengths(encoder, failed, prepared) == [2, 0, 1, 0]


def test_a_bug_in_a_tokenizer_is_no_failed_text() -> None:
    class Buggy(Letters):
        def prepare(self, item: str | bytes) -> Prepared:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        prepare_texts(Buggy(), _inputs(["a"]))
    assert not issubclass(ZeroDivisionError, UnreadableInput)


@pytest.mark.parametrize(
    ("name", "layers", "expected"),
    [
        ("sample-image", ("last", "-2", "-3"), [3]),  # one width, one plan, one pass
        ("lstm", ("last", "-2", "-3"), [2, 1]),  # the embeddings are narrower: a pass of their own
    ],
)
def test_stores_of_one_plan_share_a_pass(
    make_data: MakeData, name: str, layers: tuple[str, ...], expected: list[int]
) -> None:
    from umecache.encoders.base import EncoderOptions

    dataset = open_dataset(str(make_data({f"{n}.jpg": photo(seed=n) for n in range(3)})))
    random = EncoderOptions(weights="random") if name == "lstm" else EncoderOptions()
    encoder = load_encoder(name, random)
    model = ModelRequest(name=name, options=random, layers=layers)
    config = ExtractConfig(models=(model,), data=str(dataset.folder))
    views = [encoder.at(layer) for layer in layers]
    split = dataset.split("train", annotations=False)
    facts = {"image": [FileFacts("0" * 63 + str(n)) for n in range(3)]}
    arguments: Any = (config, model, views, {}, dataset, split, facts, 7)
    passes = plan_split(*arguments)
    assert [len(each.targets) for each in passes] == expected
    assert {each.size for each in passes} == {7}
    paths = [target.writer.path for each in passes for target in each.targets]
    assert len({Path(path).parent for path in paths}) == 3, "each layer is a store of its own"
    assert ("layers last,-2" in passes[0].label) and passes[0].item == ("images" if "image" in name else "questions")


def test_a_store_of_another_member_is_used_where_it_holds_just_this(
    make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.stores.toy import tree
    from umecache.extraction.extract import extract

    data = str(make_data({f"{n}.jpg": photo(seed=n) for n in range(2)}))
    config = ExtractConfig(
        models=(ModelRequest(name="sample-image"),), data=data, splits=("train",), device="cpu", workers=1
    )
    monkeypatch.setenv("UMECACHE_HOME", str(tmp_path / "lab"))
    (made,) = extract(config)
    Path(made.path).parent.rename(Path(made.path).parent.with_name("a-name-of-their-own"))
    theirs = Path(made.path).parent.with_name("a-name-of-their-own") / "train"
    before = tree(theirs)
    monkeypatch.setenv("UMECACHE_HOME", f"{tmp_path / 'own'}:{tmp_path / 'lab'}")
    (found,) = extract(config)
    assert (Path(found.path), found.encoded, found.fingerprint) == (theirs, 0, made.fingerprint)
    assert tree(theirs) == before
    assert not (tmp_path / "own").exists()
    (said,) = extract(replace(config, store=tmp_path / "here"))  # a place that is said is meant
    assert said.encoded
    (other,) = extract(replace(config, format="hdf5"))
    assert Path(other.path).is_relative_to(tmp_path / "own")


def test_a_file_as_a_model_gives_a_folder_that_can_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMECACHE_HOME", str(tmp_path))
    data: Any = SimpleNamespace(name="mine")
    model = ModelRequest(name="./raw.py:ENTRY")
    config = ExtractConfig(models=(model,), data="mine")
    name = store_folder(config, model, data, {"layers": "last"}).name
    assert name.startswith("raw.py--ENTRY-"), "a name that begins with a dot is hidden from `store ls` and `fuse`"
