"""What a store holds equals the library's plain forward of the single item, for every encoder of the registry.

Small configurations of the same classes, as their conformance suites (tests/encoders) write them to disk; the other
side of the comparison is the library itself, one unpadded item at a time.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.encoders import test_audio as audio
from tests.encoders import test_image as image
from tests.encoders import test_lstm as lstm
from tests.encoders import test_sample as sample
from tests.encoders import test_sample_audio as sample_audio
from tests.encoders import test_text as text
from tests.encoders import test_vgg as vgg
from tests.encoders.contract import EncoderContract
from umecache.encoders.models import MODELS
from umecache.extraction import extract as stage_one
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.stores import open_store

SUITES: dict[str, type[EncoderContract]] = {
    "bert": text.TestBert,
    "roberta": text.TestRoberta,
    "deberta-v3": text.TestDebertaV3,
    "lstm": lstm.TestLstm,
    "minilm": text.TestBert,  # the same class
    "albert": text.TestAlbert,
    "distilbert": text.TestDistilbert,
    "electra": text.TestElectra,
    "gpt2": text.TestGpt2,
    "t5": text.TestT5,
    "xlnet": text.TestXlnet,
    "vgg16": vgg.TestVgg16,
    "vgg16-fc7": vgg.TestVgg16Fc7,
    "vit": image.TestVit,
    "beit": image.TestBeit,
    "mobilenetv2": image.TestMobileNet,
    "resnet50": image.TestResNet,
    "deit": image.TestDeit,
    "swin": image.TestSwin,
    "efficientnet": image.TestEfficientNet,
    "sample-text": sample.TestSampleText,
    "sample-image": sample.TestSampleImage,
    "sample-audio": sample_audio.TestSampleAudio,
    "wav2vec2": audio.TestWav2vec2,
    "hubert": audio.TestHubert,
    "wavlm": audio.TestWavlm,
    "whisper": audio.TestWhisper,
}
# What a dtype may move a value by: its own size times this (half a unit in the last place), plus float32's rounding.
RELATIVE = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}
ABSOLUTE = 2e-5  # of the record's largest value: float32 sums in another order, as in the suites


def test_every_encoder_is_here() -> None:
    assert SUITES.keys() == MODELS.keys()


def _write_sounds(folder: Path, items: list[str | bytes]) -> Path:
    """Each item as a labelled item with its sound, ids 1, 2, ..."""
    folder.mkdir()
    lines = []
    for number, item in enumerate(items, 1):
        assert isinstance(item, bytes)
        (folder / f"{number}.wav").write_bytes(item)
        lines.append({"id": number, "audio": f"{number}.wav"})
    (folder / "items_train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def _write_data(folder: Path, items: list[str | bytes]) -> Path:
    """Each item as a question (and its image), ids 1, 2, ..."""
    (folder / "images").mkdir(parents=True)
    questions = []
    for number, item in enumerate(items, 1):
        words = item if isinstance(item, str) else f"what is in image {number}?"
        questions.append({"question_id": number, "image_id": number, "question": words})
        if isinstance(item, bytes):
            (folder / "images" / f"{number:06d}.jpg").write_bytes(item)
    (folder / "questions_train.json").write_text(json.dumps({"questions": questions}))
    return folder


CASES = [(name, "float16") for name in SUITES]
CASES += [(name, dtype) for name in ("bert", "vit", "wav2vec2") for dtype in ("float32", "bfloat16", "int8")]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_the_store_equals_the_library(name: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = SUITES[name]()
    (tmp_path / "weights").mkdir()
    encoder = suite.load(tmp_path / "weights")
    monkeypatch.setattr(stage_one, "load_encoder", lambda *_: encoder)
    items = list(suite.items)
    write = _write_sounds if encoder.modality == "audio" else _write_data
    (summary,) = stage_one.extract(
        ExtractConfig(
            models=(ModelRequest(name=name),),
            data=str(write(tmp_path / "data", items)),
            store=tmp_path / "store",
            dtype=dtype,
            device="cpu",
            batch_size=3,  # so that texts are padded to their batch, and one batch is not full
            workers=1,
        )
    )
    store = open_store(summary.path)
    for number, item in enumerate(items, 1):
        with torch.inference_mode():
            expected_TD = suite.reference(encoder, item).numpy()
        actual_TD = np.asarray(store[number], np.float32)
        assert actual_TD.shape == expected_TD.shape
        size_T = np.abs(expected_TD).max(axis=1, keepdims=True)
        step_TD = size_T / 127 / 2 * 1.01 if dtype == "int8" else RELATIVE[dtype] * np.abs(expected_TD)
        allowed_TD = step_TD + ABSOLUTE * max(1.0, float(size_T.max()))
        assert (np.abs(actual_TD - expected_TD) <= allowed_TD).all(), f"{name}, item {number}"
