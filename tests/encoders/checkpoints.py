"""Small checkpoints of the real architectures, as their authors' files lie on disk.

    write_checkpoint(folder, "deberta-v2", seed=0, form="bin")

Real classes with random weights and their heads; tokenizers trained on the spot (WordPiece, byte-level BPE,
SentencePiece) under their genuine file names; weights as safetensors or `.bin`, whole or sharded.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "brown", "pink")
THINGS = ("cat", "dog", "car", "hat", "ball", "train", "table", "kite", "horse", "bus")
QUESTIONS = [
    *(f"what color is the {thing}?" for thing in THINGS),
    *(f"how many {colour} {thing}s are there on the left of the {other}?" for colour in COLOURS for thing in THINGS
      for other in THINGS[:4]),
    *(f"Is the man's {thing} {colour}, and is it raining?" for colour in COLOURS for thing in THINGS),
    "yes", "no", "What is this?", "Where was the picture taken",
]  # fmt: skip

SIZES: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
    "roberta": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 66,
        "type_vocab_size": 1,
    },
    "deberta-v2": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "relative_attention": True,
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "max_position_embeddings": 64,
    },
    "albert": {
        "embedding_size": 16,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    },
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    "electra": {
        "embedding_size": 16,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0},
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
    "llama": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
    # Fewer heads for keys and values; Mistral looks back over a window that is shorter than a question.
    "qwen2": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "mistral": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "sliding_window": 6,
    },
    "bart": {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
    },
}
_CONVOLUTIONS = {
    "conv_dim": [16, 16, 16],
    "conv_stride": [5, 8, 8],
    "conv_kernel": [10, 8, 8],
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
SIZES |= {kind: {**SIZES["bert"], **_CONVOLUTIONS} for kind in ("wav2vec2", "hubert", "wavlm")}
SIZES["whisper"] = {
    **SIZES["bart"],
    "num_mel_bins": 20,
    "max_source_positions": 50,  # 1 s
    "max_target_positions": 20,
    **{f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "decoder_start")},
}
HEADS = {
    "bert": "BertForPreTraining",
    "roberta": "RobertaForMaskedLM",
    "deberta-v2": "DebertaV2ForMaskedLM",
    "albert": "AlbertForMaskedLM",
    "distilbert": "DistilBertForMaskedLM",
    "electra": "ElectraForPreTraining",
    "gpt2": "GPT2LMHeadModel",
    "t5": "T5ForConditionalGeneration",
    "xlnet": "XLNetLMHeadModel",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "mistral": "MistralForCausalLM",
    "bart": "BartForConditionalGeneration",
    "wav2vec2": "Wav2Vec2ForPreTraining",
    "hubert": "HubertForCTC",
    "wavlm": "WavLMForCTC",
    "whisper": "WhisperForConditionalGeneration",
}


def write_checkpoint(folder: Path, kind: str, *, seed: int = 0, form: str = "safetensors", **config: Any) -> Path:
    """A checkpoint of architecture `kind` with its head, and its tokenizer; returns the folder."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    for name, data in tokenizer_files(kind).items():
        (folder / name).write_bytes(data)
    facts = {"vocab_size": VOCAB_SIZE, **SIZES[kind], **config}
    configuration = transformers.AutoConfig.for_model(kind, **facts)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = getattr(transformers, HEADS[kind])(configuration)
    (folder / "config.json").write_text(json.dumps({**facts, "model_type": kind, "architectures": [HEADS[kind]]}))
    write_weights(folder, dict(model.state_dict()), form)
    return folder


def write_weights(folder: Path, state: dict[str, Tensor], form: str) -> None:
    """One of the four forms a checkpoint's weights come in."""
    from safetensors.torch import save_file

    state = {name: tensor.clone() for name, tensor in state.items()}  # tied weights are stored once each
    save, stem, suffix = {
        "safetensors": (lambda shard, path: save_file(shard, path, {"format": "pt"}), "model", "safetensors"),
        "bin": (torch.save, "pytorch_model", "bin"),
    }[form.removeprefix("sharded-")]
    if not form.startswith("sharded-"):
        save(state, folder / f"{stem}.{suffix}")
        return
    names = sorted(state)
    halves = [names[: len(names) // 2], names[len(names) // 2 :]]
    weight_map = {}
    for number, half in enumerate(halves, 1):
        file = f"{stem}-{number:05d}-of-{len(halves):05d}.{suffix}"
        save({name: state[name] for name in half}, folder / file)
        weight_map |= dict.fromkeys(half, file)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


# Tokenizers

VOCAB_SIZE = 420  # of the models: as many rows as the largest tokenizer has tokens, and some


@functools.cache
def tokenizer_files(kind: str) -> dict[str, bytes]:
    """The tokenizer files of an architecture, under their genuine names."""
    return TRAINERS[kind]()


def _wordpiece() -> dict[str, bytes]:
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(QUESTIONS, vocab_size=250, show_progress=False)
    words = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    return {
        "vocab.txt": "".join(f"{word}\n" for word, _ in words).encode(),
        "tokenizer_config.json": json.dumps({"do_lower_case": True, "model_max_length": 512}).encode(),
    }


def _byte_bpe(special: list[str], **config: Any) -> dict[str, bytes]:
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(QUESTIONS, vocab_size=400, special_tokens=special, show_progress=False)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]]
    return {
        "vocab.json": json.dumps(model["vocab"]).encode(),
        "merges.txt": ("#version: 0.2\n" + "\n".join(merges) + "\n").encode(),
        "tokenizer_config.json": json.dumps(config).encode(),
    }


def _tokenizer_json() -> dict[str, bytes]:
    """Byte-level BPE in one file, without a padding token, as decoders bring it."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(QUESTIONS, vocab_size=400, special_tokens=["</s>"], show_progress=False)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "model_max_length": 64}
    return {"tokenizer.json": tokenizer.to_str().encode(), "tokenizer_config.json": json.dumps(config).encode()}


def _sentencepiece(file: str, config: dict[str, Any], **options: Any) -> dict[str, bytes]:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_sentences(),
        model_writer=model,
        model_type="unigram",
        vocab_size=150,
        hard_vocab_limit=False,  # the corpus is small
        minloglevel=2,
        num_threads=1,
        **options,
    )
    return {file: model.getvalue(), "tokenizer_config.json": json.dumps(config).encode()}


def _sentences() -> Iterator[str]:
    yield from QUESTIONS


def _preprocessor(kind: str, **facts: Any) -> dict[str, bytes]:
    """Encoders of sounds bring no tokenizer: how they want their samples."""
    facts = {"feature_extractor_type": kind, "sampling_rate": 16_000, "padding_value": 0.0, **facts}
    return {"preprocessor_config.json": json.dumps(facts).encode()}


TRAINERS: dict[str, Callable[[], dict[str, bytes]]] = {
    "bert": _wordpiece,
    "distilbert": _wordpiece,
    "electra": _wordpiece,
    "roberta": lambda: _byte_bpe(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], model_max_length=64),
    "bart": lambda: _byte_bpe(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], model_max_length=64),
    "gpt2": lambda: _byte_bpe(["<|endoftext|>"], model_max_length=64),
    "llama": _tokenizer_json,
    "qwen2": _tokenizer_json,
    "mistral": _tokenizer_json,
    "wav2vec2": lambda: _preprocessor("Wav2Vec2FeatureExtractor", do_normalize=True),
    "hubert": lambda: _preprocessor("Wav2Vec2FeatureExtractor", do_normalize=True),
    "wavlm": lambda: _preprocessor("Wav2Vec2FeatureExtractor", do_normalize=False),
    "whisper": lambda: _preprocessor(
        "WhisperFeatureExtractor", feature_size=20, chunk_length=1, hop_length=160, n_fft=400
    ),
    "deberta-v2": lambda: _sentencepiece(
        "spm.model",
        {"do_lower_case": False, "vocab_type": "spm"},  # all that microsoft/deberta-v3-base has
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece="[PAD]",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        unk_piece="[UNK]",
    ),
    "t5": lambda: _sentencepiece("spiece.model", {"model_max_length": 64}, pad_id=0, eos_id=1, unk_id=2, bos_id=-1),
    "albert": lambda: _sentencepiece(
        "spiece.model",
        {"model_max_length": 64},
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        control_symbols=["[CLS]", "[SEP]", "[MASK]"],
    ),
    "xlnet": lambda: _sentencepiece(
        "spiece.model",
        {"model_max_length": 64},
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=5,
        control_symbols=["<cls>", "<sep>", "<mask>", "<eod>", "<eop>"],
    ),
}
