"""Checkpoints of transformers: what their configuration and weights decide, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.encoders.checkpoints import QUESTIONS, write_checkpoint, write_weights
from tests.encoders.contract import assert_close, hidden_states
from umecache.encoders.base import EncoderOptions
from umecache.encoders.registry import load_encoder
from umecache.errors import DataError, UmecacheError


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "bert", "bert")


def recipe(folder: Path, **options: Any) -> dict[str, Any]:
    return load_encoder(str(folder), EncoderOptions(**options)).recipe


def test_all_file_forms_give_one_recipe(tmp_path: Path) -> None:
    forms = ("safetensors", "bin", "sharded-safetensors", "sharded-bin")
    recipes = [recipe(write_checkpoint(tmp_path / form, "bert", form=form)) for form in forms]
    assert all(r == recipes[0] for r in recipes)


def test_a_weights_file_of_a_named_model(bert: Path) -> None:
    encoder = load_encoder("bert", EncoderOptions(weights=str(bert / "model.safetensors")))
    assert encoder.name == "bert"
    assert encoder.recipe == recipe(bert)


def test_half_precision_checkpoints_are_widened(bert: Path) -> None:
    from safetensors.torch import load_file

    halved = {name: tensor.half() for name, tensor in load_file(bert / "model.safetensors").items()}
    write_weights(bert, halved, "safetensors")
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**config, "torch_dtype": "float16"}))
    encoder = load_encoder(str(bert))
    assert {p.dtype for p in encoder.module.parameters()} == {torch.float32}
    query = encoder.module.state_dict()["encoder.layer.0.attention.self.query.weight"]
    assert torch.equal(query, halved["bert.encoder.layer.0.attention.self.query.weight"].float())


def test_old_names_of_layer_norms(bert: Path) -> None:
    """The hub's bert-base-uncased still calls them gamma and beta."""
    from safetensors.torch import load_file

    before = recipe(bert)
    state = load_file(bert / "model.safetensors")
    old = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
           for n, t in state.items()}  # fmt: skip
    assert old.keys() != state.keys()
    write_weights(bert, old, "safetensors")
    assert recipe(bert) == before


def test_recipe_ignores_how_the_configuration_is_written(bert: Path) -> None:
    before = recipe(bert)
    config = json.loads((bert / "config.json").read_text())
    spelt_out = {"layer_norm_eps": 1e-12, "hidden_act": "gelu", "position_embedding_type": "absolute"}  # the defaults
    inert = {"hidden_dropout_prob": 0.4, "transformers_version": "4.8.2", "use_cache": False, "num_labels": 7}
    (bert / "config.json").write_text(json.dumps({**config, **spelt_out, **inert, "_name_or_path": "somewhere"}))
    assert recipe(bert) == before


def test_recipe_follows_the_configuration(bert: Path) -> None:
    before = recipe(bert)
    after = recipe(bert, model_args={"hidden_act": "relu"})
    assert {key for key in before if before[key] != after[key]} == {"config_sha256"}


def test_fewer_layers_when_asked(bert: Path) -> None:
    whole = load_encoder(str(bert), EncoderOptions(layers="-2"))
    cut = load_encoder(str(bert), EncoderOptions(model_args={"num_hidden_layers": 1}))
    assert_close(hidden_states(cut, QUESTIONS[:1])[0], hidden_states(whole, QUESTIONS[:1])[0])


def test_random_weights_of_a_folder_keep_its_tokenizer(bert: Path) -> None:
    loaded = load_encoder(str(bert))
    drawn = load_encoder(str(bert), EncoderOptions(weights="random", seed=3))
    again = load_encoder(str(bert), EncoderOptions(weights="random", seed=3))
    assert drawn.recipe == again.recipe
    assert {key for key in drawn.recipe if drawn.recipe[key] != loaded.recipe[key]} == {"weights_sha256"}


# What is refused


def refusal(ref: str, **options: Any) -> UmecacheError:
    with pytest.raises(UmecacheError) as error:
        load_encoder(ref, EncoderOptions(**options))
    assert error.value.what
    assert error.value.next
    assert error.value.exit_status == 2
    return error.value


def test_missing_weights_are_named(bert: Path) -> None:
    from safetensors.torch import load_file

    state = load_file(bert / "model.safetensors")
    write_weights(bert, {n: t for n, t in state.items() if "layer.1.attention" not in n}, "safetensors")
    error = refusal(str(bert))
    assert "lacks 10 of the encoder's weights" in error.what
    assert "encoder.layer.1.attention" in error.what


def test_deeper_weights_than_the_configuration(bert: Path) -> None:
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    assert "beyond the configured layers" in refusal(str(bert)).what


def test_wider_weights_than_the_configuration(bert: Path) -> None:
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**config, "intermediate_size": 40}))
    error = refusal(str(bert))
    assert "is (48,) but (40,) in the model" in error.what


def test_no_tokenizer(bert: Path) -> None:
    (bert / "vocab.txt").unlink()
    assert "holds no tokenizer" in refusal(str(bert)).what


def test_no_weights(bert: Path) -> None:
    (bert / "model.safetensors").unlink()
    assert "holds no weights" in refusal(str(bert)).what


def test_another_architecture_under_a_name(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "roberta")
    assert "'roberta' model; 'bert' is 'bert'" in refusal("bert", weights=str(folder)).what


def test_absent_path(tmp_path: Path) -> None:
    assert "There are no weights at" in refusal("bert", weights=str(tmp_path / "nowhere")).what


@pytest.mark.parametrize(
    "args", [{"num_hiden_layers": 2}, {"to_dict": 1}, {"model_type": "gpt2"}, {"dtype": "float16"}]
)
def test_unknown_model_arguments(bert: Path, args: dict[str, Any]) -> None:
    error = refusal(str(bert), model_args=args)
    assert "no model argument" in error.what
    if "num_hiden_layers" in args:
        assert "num_hidden_layers" in error.why


def test_impossible_model_arguments(bert: Path) -> None:
    refusal(str(bert), weights="random", model_args={"num_attention_heads": 5})
    refusal(str(bert), weights="random", model_args={"hidden_size": "wide"})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "vit", "hidden_size": 32}, "reads no text"),
        ({"model_type": "encodec"}, "reads no text"),
        ({"model_type": "nonsense-9000"}, "does not know"),
        ({"model_type": "bert", "quantization_config": {"quant_method": "gptq"}}, "quantised"),
    ],
)
def test_other_kinds_of_models(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert words in refusal(str(tmp_path)).what


def test_code_that_comes_with_a_model_is_not_run(bert: Path) -> None:
    marker = bert / "ran"
    (bert / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Evil: pass\n")
    config = json.loads((bert / "config.json").read_text())
    auto_map = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    (bert / "config.json").write_text(json.dumps({**config, "auto_map": auto_map}))
    load_encoder(str(bert))
    (bert / "config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": auto_map}))
    refusal(str(bert))
    assert not marker.exists()


def test_offline_and_not_cached() -> None:
    error = refusal("hf:umecache-tests/not-there")
    assert "not in the local cache" in error.what
    assert "hf download umecache-tests/not-there" in error.next
    assert "--weights" in error.next


def test_damaged_sentencepiece(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "deberta-v2")
    (folder / "spm.model").write_bytes(b"not a model")
    with pytest.raises(DataError):
        load_encoder(str(folder))
