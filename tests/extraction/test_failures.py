"""A folder with broken files: the good ones are right, the bad ones recorded, nothing dies."""

from __future__ import annotations

import re

import numpy as np
import torch

from tests.encoders.broken_images import BAD, GOOD, photo
from tests.extraction.conftest import MakeData
from umecache.encoders.registry import load_encoder
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.extract import extract
from umecache.stores import open_store
from umecache.stores.verify import verify


def test_the_good_ones_are_right_and_the_bad_ones_recorded(make_data: MakeData) -> None:
    """Truncated, empty, a PDF named .jpg, CMYK, 16 bits, animated, turned, bombs: every file of the corpus."""
    photos = {f"photo-{n}.jpg": photo(seed=n) for n in range(60)}
    files = {**photos, **{n: g.data for n, g in GOOD.items()}, **{n: b.data for n, b in BAD.items()}}
    files["absent.jpg"] = b"missing"
    folder = make_data(files)
    (summary,) = extract(
        ExtractConfig(
            models=(ModelRequest(name="sample-image"),),
            data=str(folder),
            device="cpu",
            dtype="float32",
            shard_records=16,
            workers=3,
        )
    )
    assert summary.failed == len(BAD) + 1
    assert summary.records == len(files)
    store = open_store(summary.path)
    encoder = load_encoder("sample-image")
    for number, (name, content) in enumerate(files.items(), 1):
        if name in BAD:
            assert re.search(BAD[name].reason, store.failures[number]), name
            assert len(store[number]) == 0
        elif name == "absent.jpg":
            assert "no file" in store.failures[number]
        else:
            with torch.inference_mode():
                (alone_TD,) = encoder.encode(encoder.collate([encoder.prepare(content)]))
            np.testing.assert_allclose(store[number], alone_TD.numpy(), atol=2e-4, err_msg=name)
    assert verify(summary.path).ok


def test_a_question_that_is_no_text_is_recorded(make_data: MakeData) -> None:
    folder = make_data({"a.jpg": photo(), "b.jpg": photo(seed=1)})
    path = folder / "questions_train.json"
    path.write_text(path.read_text().replace("what is in b.jpg?", "what is \\ud800?"))
    (summary,) = extract(ExtractConfig(models=(ModelRequest(name="sample-text"),), data=str(folder), device="cpu"))
    assert list(summary.failures) == [20]
    assert "UTF-8" in summary.failures[20]
    assert len(open_store(summary.path)[10]) > 0
