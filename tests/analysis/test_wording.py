"""The words behind text tokens, or why there are none."""

from __future__ import annotations

from types import SimpleNamespace

from umecache.analysis.wording import Wording
from umecache.extraction.reload import declaration
from umecache.stores import open_store


def test_words_of_a_store(sample_run: SimpleNamespace) -> None:
    store = open_store(sample_run.stores["text"] / "val")
    wording = Wording(declaration(store), store.path)
    assert wording.pieces("What is red?", 3) == ["what", "is", "red"]
    assert wording.trouble == ""
    assert wording.pieces("What is red?", 4) is None
    assert "gives 3 tokens where the store has 4" in wording.trouble


def test_a_store_without_an_encoder(sample_run: SimpleNamespace) -> None:
    path = sample_run.stores["text"] / "val"
    wording = Wording({"model": None, "recipe": {}}, path)
    assert wording.pieces("red", 1) is None and "names no encoder" in wording.trouble
    declared = declaration(open_store(path))
    gone = Wording(declared, path, {"sample-text": "/nowhere"})
    assert gone.pieces("red", 1) is None and gone.trouble
    picture = open_store(sample_run.stores["image"] / "val")
    assert Wording(declaration(picture), picture.path).pieces("red", 1) is None
