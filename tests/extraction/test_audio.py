"""Sounds through stage one: one record per file, equality, failures, layers, retry, repair, plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.encoders.checkpoints import write_checkpoint
from tests.encoders.contract import hidden_states
from tests.encoders.sounds import tone, wav
from umecache.encoders.audiofile import sound_size
from umecache.encoders.hearing import SoundEncoder
from umecache.encoders.registry import load_encoder
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.estimate import estimate
from umecache.extraction.extract import extract
from umecache.extraction.repair import repair
from umecache.stores import open_store
from umecache.stores.verify import verify

FILES = {
    "a.wav": wav(tone(0.4)),
    "b.wav": wav(tone(0.23, 700, rate=44_100), rate=44_100),
    "c.wav": wav(tone(0.31, 300, seed=2)),
    "same-as-a.wav": wav(tone(0.4)),
}
BROKEN = {
    "cut.wav": wav(tone(0.3))[:-50],
    "empty.wav": b"",
    "short.wav": wav(tone(1)[:20]),
    "picture.wav": b"\x89PNG\r\n\x1a\n",
    "nan.wav": wav(np.full(9_000, np.nan), code=3, bits=32),
}
REASONS = {4: "truncated", 5: "zero bytes", 6: "too short", 7: "an image", 8: "not finite", 9: "no file", 10: "no file"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two questions on a.wav (items 0 and 11), one on each other sound, one on none (10)."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, content in {**FILES, **BROKEN}.items():
        (folder / name).write_bytes(content)
    names = [*FILES, *BROKEN, "gone.wav", None, "a.wav"]
    lines = [{"id": n, "text": "what is it?", "audio": name, "label": "x"} for n, name in enumerate(names)]
    (folder / "items_train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_checkpoint(tmp_path / "wav2vec2", "wav2vec2"))


def run(data: Path, store: Path, model: str, **changes: Any) -> Any:
    request = ModelRequest(name=model, layers=changes.pop("layers", ("last",)))
    config: dict[str, Any] = {"models": (request,), "data": str(data), "dtype": "float32"}
    where = {} if len(request.layers) > 1 else {"store": store}
    return extract(ExtractConfig(**{**config, **where, "device": "cpu", "shard_records": 2, "workers": 1, **changes}))


def test_one_record_per_file_as_a_plain_forward_gives_it(data: Path, model: str, tmp_path: Path) -> None:
    (summary,) = run(data, tmp_path / "store", model)
    store = open_store(summary.path)
    assert (summary.modality, summary.records, summary.failed) == ("audio", 11, 7)
    assert list(store.ids) == list(range(11)), "item 11 shares the sound of item 0"
    assert store.starts[0] == store.starts[3], "equal files are stored once"
    encoder = load_encoder(model)
    for position, content in enumerate(FILES.values()):
        (alone_TD,) = hidden_states(encoder, [content])
        torch.testing.assert_close(torch.from_numpy(store[position].copy()), alone_TD, rtol=0, atol=1e-4)
    for position, reason in REASONS.items():
        assert reason in store.failures[position] and len(store[position]) == 0
    assert verify(summary.path).ok


def test_layers_in_one_pass(data: Path, model: str, private_home: Path, tmp_path: Path) -> None:
    last, below = run(data, tmp_path, model, layers=("last", "-2"))
    (alone,) = run(data, tmp_path / "alone", model, layers=("-2",))
    assert open_store(below.path).fingerprint == open_store(alone.path).fingerprint != open_store(last.path).fingerprint
    np.testing.assert_array_equal(open_store(below.path)[1], open_store(alone.path)[1])


def test_mended_sounds_are_read_again(data: Path, model: str, tmp_path: Path) -> None:
    run(data, tmp_path / "store", model)
    for name in ("cut.wav", "gone.wav"):
        (data / name).write_bytes(wav(tone(0.3)))
    (again,) = run(data, tmp_path / "store", model, retry_failed=True)
    (fresh,) = run(data, tmp_path / "fresh", model)
    assert set(again.failures) == {5, 6, 7, 8, 10}
    assert again.fingerprint == fresh.fingerprint


def test_a_damaged_shard_is_made_again(data: Path, model: str, tmp_path: Path) -> None:
    (summary,) = run(data, tmp_path / "store", model)
    path = Path(summary.path)
    kept = open_store(path)[1].copy()
    victim = max((file for file in path.rglob("c/*/0") if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.write_bytes(bytes(content))
    assert not verify(path).ok
    assert repair(path, data=str(data)).same_bytes
    np.testing.assert_array_equal(open_store(path)[1], kept)


def test_a_plan_counts_tokens_exactly(data: Path, model: str) -> None:
    plan = estimate(ExtractConfig(models=(ModelRequest(name=model),), data=str(data), dtype="float32", device="cpu"))
    encoder = load_encoder(model)
    heard = [*FILES.values(), BROKEN["nan.wav"]]  # whose header is as good as any
    assert isinstance(encoder, SoundEncoder)
    assert plan["items"] == 5 and plan["tokens"] == sum(encoder.measure(sound_size(each)) for each in heard)
    assert plan["models"][0]["modality"] == "audio"
