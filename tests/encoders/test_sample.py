"""The sample's two encoders: the suite of all encoders, and that each knows its own modality."""

from __future__ import annotations

import importlib.util
import inspect
import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from tests.encoders.contract import ImageEncoderContract, TextEncoderContract, hidden_states
from umecache.data.scene_questions import FAMILIES, all_queries
from umecache.data.scenes import COLORS, KINDS, SIZE, Scene, draw, make_scene
from umecache.encoders import sample
from umecache.encoders.base import Encoder, EncoderOptions
from umecache.encoders.registry import load_encoder
from umecache.errors import DataError, UsageError

State = dict[str, Tensor]


def norm(x: Tensor, state: State, name: str) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def linear(x: Tensor, state: State, name: str) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def layers(x_TD: Tensor, state: State) -> Tensor:
    """Both transformer layers and the final norm, from the equations, one record at a time."""
    for block in ("blocks.0", "blocks.1"):
        q_TD, k_TD, v_TD = linear(norm(x_TD, state, f"{block}.norm1"), state, f"{block}.qkv").chunk(3, dim=-1)
        mixed = []
        for head in range(4):
            part = slice(16 * head, 16 * head + 16)
            weights_TT = torch.softmax(q_TD[:, part] @ k_TD[:, part].T / 16**0.5, dim=-1)
            mixed.append(weights_TT @ v_TD[:, part])
        x_TD = x_TD + linear(torch.cat(mixed, dim=-1), state, f"{block}.out")
        inner = functional.gelu(linear(norm(x_TD, state, f"{block}.norm2"), state, f"{block}.mlp.0"))
        x_TD = x_TD + linear(inner, state, f"{block}.mlp.2")
    return norm(x_TD, state, "norm")


def jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92, subsampling=0)
    return file.getvalue()


class TestSampleText(TextEncoderContract):
    def load(self, folder: Path, *, seed: int = 0, layers: str = "last") -> Encoder:
        return load_encoder("sample-text", EncoderOptions(weights="random", seed=seed, layers=layers))

    def reference(self, encoder: Encoder, item: str | bytes) -> Tensor:
        state = encoder.module.state_dict()
        ids_T = torch.from_numpy(encoder.prepare(item))
        return layers(state["word.weight"][ids_T] + state["position"][: len(ids_T)], state)


class TestSampleImage(ImageEncoderContract):
    items: ClassVar = (
        jpeg(draw(make_scene(1))),
        jpeg(draw(make_scene(2)).resize((64, 64))),
        jpeg(draw(make_scene(3)).resize((200, 90))),
    )

    def load(self, folder: Path, *, seed: int = 0, layers: str = "last") -> Encoder:
        return load_encoder("sample-image", EncoderOptions(weights="random", seed=seed, layers=layers))

    def reference(self, encoder: Encoder, item: str | bytes) -> Tensor:
        assert isinstance(item, bytes)
        state = encoder.module.state_dict()
        with Image.open(io.BytesIO(item)) as image:
            small = image.convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)
        x = (torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.25
        for conv, pad in ((0, 2), (3, 1), (6, 1), (9, 1)):
            x = functional.conv2d(x, state[f"stem.{conv}.weight"], state[f"stem.{conv}.bias"], stride=2, padding=pad)
            x = functional.group_norm(x, 8, state[f"stem.{conv + 1}.weight"], state[f"stem.{conv + 1}.bias"])
            x = functional.gelu(x)
        return layers(x[0].flatten(1).T + state["position"], state)


# The weights that are shipped


@pytest.fixture(scope="module")
def text() -> Encoder:
    return load_encoder("sample-text")


@pytest.fixture(scope="module")
def image() -> Encoder:
    return load_encoder("sample-image")


@pytest.mark.parametrize("name", ["sample_text", "sample_image"])
def test_weights_are_small_and_say_how_they_were_made(name: str) -> None:
    path = sample.WEIGHTS / f"{name}.safetensors"
    assert path.stat().st_size < 1_000_000
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["umecache"])["task"]
    assert name in (sample.WEIGHTS / "README.md").read_text()


def test_every_word_of_every_question_is_known(text: Encoder) -> None:
    for family in FAMILIES:
        for query in all_queries(family):
            for phrasing in query.phrasings():
                ids = text.prepare(phrasing)
                assert ids.min() > sample.SampleWords.FIRST  # not padding, unknown or masked
                assert len(ids) == len(phrasing.split())


def test_unknown_words_share_a_token(text: Encoder) -> None:
    np.testing.assert_array_equal(text.prepare("Is the giraffe red?"), text.prepare("is the zebra RED"))


def test_the_masked_word_cannot_be_typed(text: Encoder) -> None:
    assert sample.SampleWords.FIRST not in text.prepare("is the <masked> red?")


def probe(features: Tensor, classes: Tensor, new_features: Tensor, new_classes: Tensor) -> float:
    """Accuracy of a linear map fitted by least squares on frozen features, on new records."""
    ones = [torch.cat([x, torch.ones(len(x), 1)], dim=1).double() for x in (features, new_features)]
    targets = functional.one_hot(classes).double()
    ridge = ones[0].T @ ones[0] + 1e-3 * torch.eye(ones[0].shape[1], dtype=torch.double)
    fitted = torch.linalg.solve(ridge, ones[0].T @ targets)
    return float(((ones[1] @ fitted).argmax(1) == new_classes).double().mean())


def test_cells_tell_what_is_drawn_in_them(image: Encoder) -> None:
    """Frozen hidden states of the cell where a shape's centre lies name its kind and colour on pictures never seen."""
    features, kinds, colors = [], [], []
    for start in range(0, 600, 100):
        scenes = [make_scene(k, seed=77) for k in range(start, start + 100)]
        for scene, hidden_TD in zip(scenes, hidden_states(image, [jpeg(draw(s)) for s in scenes]), strict=True):
            for shape in scene.shapes:
                cell = int(shape.y // (SIZE / 4)) * 4 + int(shape.x // (SIZE / 4))
                features.append(hidden_TD[cell])
                kinds.append(KINDS.index(shape.kind))
                colors.append(list(COLORS).index(shape.color))
    split = len(features) * 3 // 4
    x, kind, color = torch.stack(features), torch.tensor(kinds), torch.tensor(colors)
    assert probe(x[:split], kind[:split], x[split:], kind[split:]) > 0.9
    assert probe(x[:split], color[:split], x[split:], color[split:]) > 0.9


def test_words_tell_what_is_asked(text: Encoder) -> None:
    queries = [query for family in FAMILIES for query in all_queries(family)]
    asked = [(phrasing, FAMILIES.index(q.family)) for q in queries for phrasing in q.phrasings()]
    pooled = torch.stack([hidden_TD.mean(0) for hidden_TD in hidden_states(text, [words for words, _ in asked])])
    family = torch.tensor([number for _, number in asked])
    assert probe(pooled[::2], family[::2], pooled[1::2], family[1::2]) > 0.95


# What is refused


@pytest.mark.parametrize("name", ["sample-text", "sample-image"])
def test_options_that_do_not_exist_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="model-arg"):
        load_encoder(name, EncoderOptions(model_args={"depth": 3}))
    for weights in ("nowhere.safetensors", str(Path(__file__))):
        with pytest.raises(DataError) as error:
            load_encoder(name, EncoderOptions(weights=weights))
        assert Path(weights).name in error.value.what


def test_other_image_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="64 x 64"):
        load_encoder("sample-image", EncoderOptions(image_size=224))


@pytest.mark.parametrize("limit", [0, 33])
def test_other_lengths_are_refused(limit: int) -> None:
    with pytest.raises(UsageError, match="1 to 32 words"):
        load_encoder("sample-text", EncoderOptions(max_length=limit))


def test_weights_without_words_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    save_file(load_file(sample.WEIGHTS / "sample_text.safetensors"), path)
    with pytest.raises(DataError, match="does not say its words"):
        load_encoder("sample-text", EncoderOptions(weights=str(path)))


def test_weights_of_the_other_encoder_are_refused() -> None:
    path = sample.WEIGHTS / "sample_text.safetensors"
    with pytest.raises(DataError):
        load_encoder("sample-image", EncoderOptions(weights=str(path)))


# The script that makes the weights


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "train_sample_encoders.py"
    spec = importlib.util.spec_from_file_location("train_sample_encoders", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_training_is_reproducible_and_fits_the_package(script: ModuleType, tmp_path: Path) -> None:
    for run in ("a", "b"):
        script.main(["--out", str(tmp_path / run), "--steps", "6", "--pictures", "40"])
    for which in ("text", "image"):
        first, second = (tmp_path / run / f"sample_{which}.safetensors" for run in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
        made = load_encoder(f"sample-{which}", EncoderOptions(weights=str(first)))
        shipped = load_encoder(f"sample-{which}")
        assert made.recipe["weights_sha256"] != shipped.recipe["weights_sha256"]
        assert {k: v for k, v in made.recipe.items() if k != "weights_sha256"} == {
            k: v for k, v in shipped.recipe.items() if k != "weights_sha256"
        }


def test_each_encoder_learns_from_its_own_modality_only(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that draws runs while the text encoder learns; nothing that asks or answers while the image encoder
    does.
    """

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("the other modality was touched")

    with monkeypatch.context() as patch:
        patch.setattr(script, "draw", never)
        patch.setattr(script, "make_scene", never)
        patch.setattr("umecache.data.scene_questions.Query.answer", never)
        script.train_text(steps=2, batch=4)
    with monkeypatch.context() as patch:
        patch.setattr("umecache.data.scene_questions.Query.answer", never)
        patch.setattr("umecache.data.scene_questions.Query.phrasings", never)
        patch.setattr(script, "questions", never)
        script.train_image(steps=2, batch=4, pictures=8)


def test_demo_pictures_are_not_those_the_encoder_learned_from(script: ModuleType) -> None:
    from umecache.data.sample import write_sample

    assert script.SEED > 1_000_000
    assert inspect.signature(write_sample).parameters["seed"].default not in (script.SEED, script.SEED + 1)
    assert isinstance(make_scene(1, script.SEED), Scene)
    assert make_scene(1, script.SEED).shapes != make_scene(1, 0).shapes
