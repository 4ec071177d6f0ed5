"""Where networks and weights come from: hub, folders, files, seeds; and what is refused on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.encoders.broken_images import photo
from tests.encoders.contract import assert_close, hidden_states
from tests.encoders.small_timm import SIZE, SMALL, write_folder
from umecache.encoders.base import Encoder, EncoderOptions
from umecache.encoders.hub import Snapshot
from umecache.encoders.models import MODELS, TIMM, VGG16
from umecache.encoders.registry import load_encoder, resolve
from umecache.encoders.timm_models import Misfit, find_source, head_classes
from umecache.errors import DataError, UmecacheError, UnknownName, UsageError

VIT = "vit_base_patch16_384"


def small(folder: Path, *, ref: str = "vit", **options: Any) -> Encoder:
    return load_encoder(ref, EncoderOptions(weights=str(folder), **{"image_size": SIZE, **options}))


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


def reconfigure(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


# Forms of a checkpoint


def test_every_form_gives_the_same_encoder(tmp_path: Path) -> None:
    model = write_folder(tmp_path / "safe", VIT)
    write_folder(tmp_path / "bin", VIT, form=False)
    assert not (tmp_path / "bin" / "model.safetensors").exists()
    (tmp_path / "bare").mkdir()
    save_file(model.state_dict(), tmp_path / "bare" / "tuned.safetensors")
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "bare" / "training.pth")
    args = dict(SMALL[VIT].args)
    encoders = [
        small(tmp_path / "safe"),
        small(tmp_path / "bin"),
        small(tmp_path / "safe" / "model.safetensors"),  # the config.json beside it counts
        small(tmp_path / "bare" / "tuned.safetensors", model_args=args),
        small(tmp_path / "bare" / "training.pth", model_args=args),
        load_encoder(str(tmp_path / "safe")),  # the folder as the model
        load_encoder(f"timm:{VIT}", EncoderOptions(weights=str(tmp_path / "safe"))),
    ]
    first = encoders[0]
    data = photo()
    for encoder in encoders[1:]:
        assert encoder.recipe == first.recipe
        assert torch.equal(hidden_states(encoder, [data])[0], hidden_states(first, [data])[0])
    assert encoders[5].name == "safe"
    assert all(encoder.origin["revision"] is None for encoder in encoders)


def test_a_folder_brings_its_own_preprocessing(tmp_path: Path) -> None:
    write_folder(tmp_path, "mobilenetv2_100")

    def change(config: dict[str, Any]) -> dict[str, Any]:
        config["pretrained_cfg"] |= {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 96, 96]}
        config["pretrained_cfg"] |= {"crop_pct": 1.0, "interpolation": "bilinear"}
        return config

    reconfigure(tmp_path, change)
    encoder = load_encoder(str(tmp_path), EncoderOptions(crop=True))
    wanted = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "image_size": 96, "crop_pct": 1.0}
    assert {key: encoder.recipe[key] for key in wanted} == wanted
    assert encoder.recipe["interpolation"] == "bilinear"


def test_folders_of_older_timms_keep_all_on_one_level(tmp_path: Path) -> None:
    write_folder(tmp_path, "mobilenetv2_100")
    before = load_encoder(str(tmp_path), EncoderOptions(model_args={"pad_type": "same"}))
    reconfigure(tmp_path, lambda config: {"architecture": config["architecture"], **config["pretrained_cfg"]})
    after = load_encoder(str(tmp_path), EncoderOptions(model_args={"pad_type": "same"}))
    assert after.recipe == before.recipe


def test_position_embeddings_follow_the_image_size(tmp_path: Path) -> None:
    """As timm itself resamples them."""
    write_folder(tmp_path, VIT)
    encoder = small(tmp_path, image_size=96)
    assert encoder.grid is not None
    assert (encoder.grid.height, encoder.grid.width) == (6, 6)
    args = {**SMALL[VIT].args, "img_size": 96, "num_classes": 10}
    file = {"file": str(tmp_path / "model.safetensors"), "num_classes": 10, "custom_load": False}
    theirs = timm.create_model(VIT, pretrained=True, pretrained_cfg_overlay=file, **args).eval()
    with torch.inference_mode():
        x = torch.randn(1, 3, 96, 96)
        assert_close(encoder.module.network.forward_features(x)[0], theirs.forward_features(x)[0])


@pytest.mark.parametrize("classes", [0, 1, 1001])
def test_any_number_of_classes(classes: int, tmp_path: Path) -> None:
    for n, architecture in enumerate(("mobilenetv2_100", "swin_base_patch4_window7_224")):
        folder = tmp_path / str(n)
        write_folder(folder, architecture, classes=classes)
        encoder = load_encoder(str(folder), EncoderOptions(image_size=SIZE))
        parameters = dict(encoder.module.named_parameters())
        assert not any(name.startswith(("network.classifier", "network.head")) for name in parameters)


def test_head_classes() -> None:
    head = {"head.fc.weight": torch.zeros(7, 3), "head.weight": torch.zeros(2, 2, 2)}
    assert head_classes(head, "head.fc") == 7
    assert head_classes(head, ("head", "head_dist")) == 7
    assert head_classes({"classifier.weight": torch.zeros(5, 3, 1, 1)}, None) == 5
    assert head_classes({}, "head") == 0


def test_leftovers_of_other_heads_do_not_matter(tmp_path: Path) -> None:
    write_folder(tmp_path, VIT)
    before = small(tmp_path)
    rewrite(tmp_path, lambda state: {**state, "projector.weight": torch.zeros(3, 3), "mask_token": torch.zeros(1)})
    assert small(tmp_path).recipe == before.recipe


def test_random_weights_follow_the_seed() -> None:
    options = [EncoderOptions(weights="random", seed=seed, image_size=SIZE) for seed in (0, 0, 1)]
    first, again, other = (load_encoder("mobilenetv2", o) for o in options)
    assert again.recipe == first.recipe
    assert other.recipe["weights_sha256"] != first.recipe["weights_sha256"]
    assert first.origin["weights"] == "random"
    assert (first.origin["seed"], other.origin["seed"]) == (0, 1)


def test_random_weights_of_a_folders_architecture(tmp_path: Path) -> None:
    write_folder(tmp_path, VIT)
    encoder = load_encoder(str(tmp_path), EncoderOptions(weights="random"))
    trained = load_encoder(str(tmp_path))
    assert encoder.recipe["config_sha256"] == trained.recipe["config_sha256"]
    assert encoder.recipe["weights_sha256"] != trained.recipe["weights_sha256"]


# What does not fit


def test_missing_weights_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path, VIT)
    rewrite(tmp_path, lambda state: {k: v for k, v in state.items() if not k.startswith("blocks.1.attn")})
    with pytest.raises(DataError, match=r"4 weights missing \(blocks\.1\.attn\.qkv\.weight") as error:
        small(tmp_path)
    assert str(tmp_path) in error.value.what
    assert "random" in error.value.why


def test_weights_of_another_shape_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path, VIT)
    rewrite(tmp_path, lambda state: {**state, "norm.weight": torch.ones(7)})
    with pytest.raises(DataError, match=r"norm\.weight is \[7\] in the checkpoint and \[32\] in the model"):
        small(tmp_path)


def test_a_deeper_checkpoint_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, VIT, depth=3)
    reconfigure(tmp_path, lambda config: {**config, "model_args": {**config["model_args"], "depth": 2}})
    with pytest.raises(DataError, match=r"12 unknown \(blocks\.2"):
        small(tmp_path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, "mobilenetv2_100")
    (tmp_path / "config.json").unlink()
    with pytest.raises(DataError, match="does not fit vit_base_patch16_384"):
        small(tmp_path)


def test_a_folder_of_another_network_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, "mobilenetv2_100")
    with pytest.raises(UsageError, match="holds a mobilenetv2_100") as error:
        small(tmp_path)
    assert error.value.next == f"umecache extract --model {tmp_path}"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda config: {**config, "architecture": 3}, "architecture"),
        (lambda config: {**config, "architecture": "vit_base_patch16_383"}, "Did you mean 'vit_base_patch16_384'"),
        (lambda config: {**config, "pretrained_cfg": "x"}, "pretrained_cfg"),
        (lambda config: {**config, "pretrained_cfg": {"mean": 0.5}}, "mean is not 3 numbers"),
        (lambda config: {**config, "pretrained_cfg": {"std": ["a", "b", "c"]}}, "std is not 3 numbers"),
        (lambda config: {**config, "pretrained_cfg": {"input_size": [3, 64]}}, "input_size is not 3 numbers"),
        (lambda config: {**config, "pretrained_cfg": {"crop_pct": "all"}}, "crop_pct can't be 'all'"),
        (lambda config: {**config, "model_args": {"img_size": "big"}}, "img_size='big'"),
        (lambda config: {**config, "model_args": {"img_size": [64, 32]}}, "reads images of 64 x 32"),
        (lambda config: {**config, "model_args": [1]}, "not that of a timm model"),
        (lambda config: {**config, "model_args": {"depht": 3}}, "depht"),
        (lambda config: {**config, "model_args": {"checkpoint_path": "/etc/passwd"}}, "checkpoint_path"),
        (lambda config: {**config, "model_args": {"in_chans": 1}}, "in_chans"),
    ],
)
def test_malformed_configurations_are_refused(change: Callable[..., Any], word: str, tmp_path: Path) -> None:
    write_folder(tmp_path, VIT)
    reconfigure(tmp_path, change)
    with pytest.raises(UmecacheError, match=word) as error:
        load_encoder("vit", EncoderOptions(weights=str(tmp_path)))
    assert error.value.exit_status == 2
    assert "\n" not in str(error.value)


def test_a_configuration_can_not_name_other_files(tmp_path: Path) -> None:
    write_folder(tmp_path / "evil", VIT, seed=1)
    write_folder(tmp_path / "good", VIT, seed=0)
    before = small(tmp_path / "good")

    def change(config: dict[str, Any]) -> dict[str, Any]:
        config["pretrained_cfg"] |= {
            "file": str(tmp_path / "evil" / "model.safetensors"),
            "url": "http://127.0.0.1:9/evil.bin",
            "source": "local-dir",
            "custom_load": True,
        }
        return config

    reconfigure(tmp_path / "good", change)
    assert small(tmp_path / "good").recipe == before.recipe


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no weights"):
        small(tmp_path / "nowhere.safetensors")
    with pytest.raises(DataError, match="no weights"):
        small(tmp_path)


@pytest.mark.parametrize("key", ["pretrained", "checkpoint_path", "pretrained_cfg", "features_only", "device"])
def test_arguments_that_are_none_of_the_networks(key: str) -> None:
    with pytest.raises(UsageError, match=key):
        load_encoder("mobilenetv2", EncoderOptions(weights="random", model_args={key: "x"}))


@pytest.mark.parametrize("size", [0, -32, 100_000])
def test_absurd_sizes_are_refused(size: int) -> None:
    for name in ("vit", "mobilenetv2", "vgg16"):
        with pytest.raises(UsageError, match="--image-size"):
            load_encoder(name, EncoderOptions(weights="random", image_size=size))


def test_unknown_arguments_are_named() -> None:
    with pytest.raises(UsageError, match="padtype='same'") as error:
        load_encoder("mobilenetv2", EncoderOptions(weights="random", model_args={"padtype": "same"}))
    assert "unexpected keyword argument 'padtype'" in error.value.why


# Names


@pytest.mark.parametrize(
    ("ref", "near"),
    [
        ("timm:vit_base_patch16_38", "vit_base_patch16_384"),
        ("timm:resnet_50", "resnet50"),
        ("timm:mobilenetv2_10", "mobilenetv2_100"),
    ],
)
def test_unknown_architectures_suggest_near_ones(ref: str, near: str) -> None:
    with pytest.raises(UnknownName, match=f"Did you mean.*'{near}'"):
        load_encoder(ref, EncoderOptions(weights="random"))


def test_unknown_tags_suggest_near_ones() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'augreg_in1k'"):
        load_encoder("timm:vit_base_patch16_384.augreg", EncoderOptions(weights="random"))


def test_the_tag_of_a_registry_entry_decides_its_preprocessing() -> None:
    source = find_source(resolve("vit"), EncoderOptions(weights="random"))
    assert source.architecture == "vit_base_patch16_384.augreg_in21k_ft_in1k"
    assert source.plain_architecture == VIT


def test_every_image_entry_names_a_known_network_and_its_weights() -> None:
    for entry in MODELS.values():
        if entry.builder in (TIMM, VGG16):
            architecture = find_source(entry, EncoderOptions(weights="random")).architecture
            assert timm.models.get_pretrained_cfg(architecture).hf_hub_id.partition("@")[0] == entry.repo


# The hub


def test_hub_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, VIT)
    asked: list[tuple[str, str | None]] = []

    def fetch(repo: str, revision: str | None = None) -> Snapshot:
        asked.append((repo, revision))
        return Snapshot(tmp_path, "c0ffee")

    monkeypatch.setattr("umecache.encoders.timm_models.fetch", fetch)
    encoder = load_encoder("vit")
    again = load_encoder(f"timm:{VIT}.augreg_in1k")
    third = load_encoder("timm:hf-hub:someone/their-vit@v1")
    assert asked == [
        ("timm/vit_base_patch16_384.augreg_in21k_ft_in1k", None),
        ("timm/vit_base_patch16_384.augreg_in1k", None),
        ("someone/their-vit", "v1"),
    ]
    assert encoder.origin["repo"] == asked[0][0]
    assert encoder.origin["revision"] == "c0ffee"
    assert encoder.recipe == again.recipe == third.recipe == small(tmp_path).recipe


def test_offline_says_what_to_do() -> None:
    with pytest.raises(UmecacheError, match="--weights") as error:
        load_encoder("timm:resnet18")
    assert "timm/resnet18" in error.value.what


def test_networks_without_fetchable_weights() -> None:
    with pytest.raises(UsageError, match="--weights PATH"):
        load_encoder("timm:coatnet_0_224")


# torch's message about a state dict


def test_misfit_reads_torchs_message() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 5))
    state = module.state_dict()
    state["0.weight"] = torch.zeros(4, 9)
    del state["1.bias"]
    state["2.bias"] = torch.zeros(1)
    with pytest.raises(RuntimeError) as error:
        module.load_state_dict(state)
    misfit = Misfit.parse(str(error.value))
    assert misfit is not None
    assert misfit.missing == ["1.bias"]
    assert misfit.unexpected == ["2.bias"]
    assert misfit.shapes == ["0.weight is [4, 9] in the checkpoint and [4, 3] in the model"]
    assert not misfit.harmless(state)
    assert Misfit.parse("CUDA error") is None
