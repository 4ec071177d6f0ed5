"""Checkpoints in every form give the same tensors; what would have to be unpickled is refused."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.encoders.checkpoints import write_weights
from umecache.encoders import weights
from umecache.encoders.weights import (
    check_fit,
    find_weights,
    freeze,
    load_into,
    load_state,
    seeded,
    weights_sha256,
)
from umecache.errors import DataError, UmecacheError

FORMS = ("safetensors", "bin", "sharded-safetensors", "sharded-bin")


@pytest.fixture
def state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "encoder.layer.0.weight": torch.randn(4, 3, generator=generator),
        "encoder.layer.0.bias": torch.randn(4, generator=generator).to(torch.bfloat16),
        "embeddings.weight": torch.randn(5, 3, generator=generator).half(),
        "count": torch.tensor(7),
    }


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name], b[name])


@pytest.mark.parametrize("form", FORMS)
def test_forms(tmp_path: Path, state: dict[str, Tensor], form: str) -> None:
    write_weights(tmp_path, state, form)
    assert_same(load_state(tmp_path), state)
    assert_same(load_state(find_weights(tmp_path)), state)


def test_safetensors_are_preferred(tmp_path: Path, state: dict[str, Tensor]) -> None:
    write_weights(tmp_path, state, "bin")
    write_weights(tmp_path, {"other": torch.ones(1)}, "safetensors")
    assert list(load_state(tmp_path)) == ["other"]


def test_a_single_odd_name(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_file(state, tmp_path / "mobilenetv2_100.safetensors")
    assert_same(load_state(tmp_path), state)
    save_file(state, tmp_path / "another.safetensors")
    with pytest.raises(DataError, match=r"another\.safetensors, mobilenetv2_100\.safetensors"):
        load_state(tmp_path)


def test_old_torch_format(tmp_path: Path, state: dict[str, Tensor]) -> None:
    """Checkpoints of before torch 1.6 are no zip archives."""
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert_same(load_state(tmp_path), state)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_training_checkpoints(tmp_path: Path, state: dict[str, Tensor], key: str) -> None:
    torch.save({"epoch": 3, key: OrderedDict(state), "best": 0.5}, tmp_path / "checkpoint.pth")
    assert_same(load_state(tmp_path / "checkpoint.pth"), state)


def test_data_parallel_prefix(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "x.bin")
    assert_same(load_state(tmp_path / "x.bin"), state)


# What is refused


class Payload:
    """Unpickling it in full would write a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.marker, "ran")


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_unpickled_in_full(tmp_path: Path, state: dict[str, Tensor], zipped: bool) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "pytorch_model.bin"
    torch.save({**state, "payload": Payload(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError) as error:
        load_state(path)
    assert not marker.exists()
    assert "refused" in error.value.what
    assert "any code" in error.value.why
    assert "save_file" in error.value.next


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(DataError, match="Linear"):
        load_state(tmp_path / "model.pt")


def test_torch_before_the_fix_is_refused(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_weights(tmp_path, state, "bin")
    monkeypatch.setattr(weights.torch, "__version__", "2.5.1+cpu")
    with pytest.raises(DataError, match="CVE-2025-32434"):
        load_state(tmp_path)


@pytest.mark.parametrize("form", FORMS)
def test_cut_files(tmp_path: Path, state: dict[str, Tensor], form: str) -> None:
    write_weights(tmp_path, state, form)
    victim = max((p for p in tmp_path.iterdir() if p.suffix != ".json"), key=lambda p: p.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-40])
    with pytest.raises(DataError, match=victim.name):
        load_state(tmp_path)


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_files_that_are_no_checkpoints(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match="damaged or no"):
        load_state(tmp_path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, 3])
def test_no_state_dict_inside(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.bin")
    with pytest.raises(DataError, match="holds no state dict"):
        load_state(tmp_path / "x.bin")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no weights"):
        load_state(tmp_path)
    with pytest.raises(DataError, match="There are no weights"):
        load_state(tmp_path / "nowhere.bin")
    (tmp_path / "tf_model.h5").touch()
    with pytest.raises(DataError, match=r"found tf_model\.h5"):
        load_state(tmp_path)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", 3])
def test_an_index_stays_in_its_folder(tmp_path: Path, name: object) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"x": torch.ones(1)}, tmp_path / "secret.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(DataError, match="outside its folder"):
        load_state(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"x": []}}'])
def test_malformed_index(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(DataError, match="no shard index"):
        load_state(tmp_path)


def test_missing_shards_and_tensors(tmp_path: Path, state: dict[str, Tensor]) -> None:
    write_weights(tmp_path, state, "sharded-safetensors")
    index = tmp_path / "model.safetensors.index.json"
    listed = json.loads(index.read_text())
    listed["weight_map"]["ghost"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(listed))
    with pytest.raises(DataError, match="ghost"):
        load_state(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(DataError, match="lacks the shard model-00002"):
        load_state(tmp_path)


# Fit


class Small(nn.Module):
    def __init__(self, layers: int = 2) -> None:
        super().__init__()
        self.layer = nn.ModuleList(nn.Linear(3, 3) for _ in range(layers))
        self.register_buffer("positions", torch.arange(4), persistent=False)
        self.register_buffer("scale", torch.ones(2))


def test_load_into_is_strict_about_the_encoder() -> None:
    state = Small().state_dict()
    module = Small()
    assert load_into(module, {**state, "head.weight": torch.ones(2)}, source="X") == ["head.weight"]
    assert torch.equal(module.layer[1].weight, state["layer.1.weight"])
    with pytest.raises(DataError, match=r"X lacks 2 of the encoder's weights: layer\.1\.bias, layer\.1\.weight"):
        load_into(module, {n: t for n, t in state.items() if not n.startswith("layer.1")}, source="X")
    with pytest.raises(DataError, match="beyond the configured layers"):
        load_into(module, Small(layers=3).state_dict(), source="X")
    with pytest.raises(DataError, match="size mismatch"):
        load_into(module, {**state, "layer.0.bias": torch.ones(9)}, source="X")


def test_check_fit_names_the_first_few() -> None:
    missing = [f"layer.{i}.weight" for i in range(9)]
    with pytest.raises(DataError, match=r"layer\.0\.weight, layer\.1\.weight, layer\.2\.weight, \.\.\. \(6 more\)"):
        check_fit(missing, [], Small(), source="X")
    assert check_fit(["pooler.weight"], ["cls.bias"], Small(), source="X", may_miss=("pooler",)) == ["cls.bias"]
    assert check_fit([], ["bert.layer.7.weight"], Small(), source="X", may_cut=True)
    with pytest.raises(DataError, match="beyond"):
        check_fit([], ["bert.layer.7.weight"], Small(), source="X")


# The hash


def test_hash_is_what_it_says() -> None:
    module = nn.Linear(2, 1)
    digest = hashlib.sha256()
    for name, tensor in (("bias", module.bias), ("weight", module.weight)):
        digest.update(json.dumps([name, "float32", list(tensor.shape)]).encode() + b"\n")
        digest.update(tensor.detach().numpy().tobytes())
    assert weights_sha256(module) == digest.hexdigest()


@pytest.mark.parametrize("form", FORMS)
def test_hash_knows_no_files(tmp_path: Path, form: str) -> None:
    module, loaded = Small(), Small()
    write_weights(tmp_path, module.state_dict(), form)
    assert weights_sha256(loaded) != weights_sha256(module)
    load_into(loaded, load_state(tmp_path), source=form)
    assert weights_sha256(loaded) == weights_sha256(module)


def test_hash_sees_every_change() -> None:
    module = Small()
    seen = {weights_sha256(module)}
    with torch.no_grad():
        module.layer[0].weight[0, 0] += 1e-6
        seen.add(weights_sha256(module))
        module.scale[1] = 2  # type: ignore[index, operator]
        seen.add(weights_sha256(module))
    seen.add(weights_sha256(module.half()))
    seen.add(weights_sha256(Small(layers=1)))
    assert len(seen) == 5


def test_hash_ignores_what_is_not_loaded() -> None:
    module = Small()
    before = weights_sha256(module)
    module.positions += 1  # type: ignore[operator, assignment]
    assert weights_sha256(module) == before
    assert weights_sha256(module, skip=("scale",)) != before


def test_hash_of_odd_tensors() -> None:
    module = nn.Module()
    for name, tensor in {
        "scalar": torch.tensor(1.5),
        "empty": torch.ones(0, 3),
        "brain": torch.ones(3, dtype=torch.bfloat16),
        "flag": torch.tensor([True]),
        "strided": torch.arange(6.0).view(2, 3).T,
    }.items():
        module.register_buffer(name, tensor)
    before = weights_sha256(module)
    module.register_buffer("strided", torch.arange(6.0).view(2, 3).T.contiguous())
    assert weights_sha256(module) == before


# Random weights and freezing


def test_seeded() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    draws = []
    for seed in (1, 1, 2):
        with seeded(seed):
            draws.append(nn.Linear(3, 3).weight)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_freeze() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).half()
    assert freeze(module) is module
    assert not module.training
    assert not any(p.requires_grad or p.dtype != torch.float32 for p in module.parameters())


def test_refusals_say_what_next(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UmecacheError) as error:
            load_state(path)
        assert error.value.next
        assert error.value.exit_status == 2
