"""`lstm`: two LSTM layers over word embeddings, trained by stage one on the train split's questions alone.

    umecache extract --model lstm                             # trains once per data set, then encodes
    umecache extract --model lstm --model-arg epochs=4 --model-arg dim=1024
    encoder = load_lstm(encoder.files)                        # again, from the two files that travel in the store

The "deeper LSTM Q" of the VQA paper (Antol et al., ICCV 2015, arXiv:1505.00468), which the thesis' setup A uses:
trained to answer questions without seeing the image (`umecache.encoders.lstm_training`), then frozen. Its hidden states
are those of the top layer, one per word. There are no public weights, so weights and words travel in the store.

Being causal, it needs no mask: padding on the right can't reach the tokens before it.

Shapes: B batch, T tokens, D width of the hidden states.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from umecache.encoders.base import Encoder, EncoderOptions, LoadContext
from umecache.encoders.lstm_network import MAX_LENGTH, VOCAB, WEIGHTS, QuestionLSTM, pack, unpack
from umecache.encoders.lstm_training import LstmSettings, trained_files
from umecache.encoders.models import MODELS, ModelEntry
from umecache.encoders.tokens import HashedWords, TextEncoder, WordVocab, token_facts
from umecache.encoders.weights import freeze, load_into, seeded, weights_sha256
from umecache.errors import DataError, UsageError

RANDOM_WORDS = 10_000  # rows of the table with random weights, where words are hashed


class LstmEncoder(TextEncoder):
    """The frozen LSTM with its words."""

    module: QuestionLSTM

    def __init__(self, name: str, module: QuestionLSTM, tokenizer: WordVocab | HashedWords, layers: str) -> None:
        """Wrap a network; see `build_lstm` and `load_lstm`.

        Raises:
            UsageError: `layers` names a layer that the network does not have.
        """
        self.name, self.module, self.tokenizer = name, module, tokenizer
        freeze(module)
        self.vocab_size = len(module.embedding.weight)
        facts = {"cell": "lstm", "input": "tanh embedding", "layers": len(module.layers)}
        self.recipe = {
            "weights_sha256": weights_sha256(module),
            "config_sha256": hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
            **token_facts(tokenizer, tokenizer.max_length),
        }
        self._read_at(layers)
        self.origin = {
            "library": "torch",
            "library_version": torch.__version__,
            "architecture": type(module).__name__,
            "licence": MODELS["lstm"].licence,
            "citation": MODELS["lstm"].citation,
        }

    def _read_at(self, layers: str) -> None:
        count = len(self.module.layers) + 1
        if layers != "last" and not (re.fullmatch(r"-\d{1,4}", layers) and 1 <= -int(layers) <= count):
            raise UsageError(
                f"layers={layers!r} names no hidden state of {self.name}.",
                why=f"It has {count}: -1 is the top layer's, -{count} the embeddings.",
                next="--layers last",
            )
        self._state = -1 if layers == "last" else int(layers)
        width = self.module.embedding.weight.shape[1]
        self.dim = width if self._state == -count else int(self.module.layers[0].hidden_size)  # type: ignore[arg-type]
        self.recipe = {**self.recipe, "layers": "last" if self._state == -1 else layers}

    def layer_names(self) -> tuple[str, ...]:
        """The top layer's, down to the embeddings."""
        return ("last", *(f"-{i}" for i in range(2, len(self.module.layers) + 2)))

    def at(self, layers: str) -> LstmEncoder:
        """The same network read at another layer."""
        view = copy.copy(self)
        view._read_at(layers)
        return view

    def encode_layers(self, batch: Mapping[str, Tensor], views: Sequence[Encoder]) -> list[Tensor]:
        """Hidden states [B, T, D] of each view, in one pass."""
        states, _ = self.module(batch["input_ids"])
        return [states[view._state] for view in views if isinstance(view, LstmEncoder)]

    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Hidden states [B, T, D]."""
        states, _ = self.module(batch["input_ids"])
        hidden_BTD: Tensor = states[self._state]
        return hidden_BTD


def build_lstm(entry: ModelEntry, options: EncoderOptions, context: LoadContext) -> LstmEncoder:
    """`lstm`: from the files named, from the cache of an earlier run, or trained now.

    Raises:
        UsageError: no training questions, or settings that can't be.
        DataError: files that are missing or damaged.
    """
    settings = LstmSettings.from_args(options.model_args)
    if options.weights == "random":
        with seeded(options.seed):
            module = QuestionLSTM(RANDOM_WORDS, settings.embedding_dim, settings.dim, settings.layers)
        tokenizer = HashedWords(RANDOM_WORDS, max_length=_limit(options.max_length, 3))
        encoder = LstmEncoder(entry.name, module, tokenizer, options.layers)
        encoder.files = pack(module, {"hashed_words": RANDOM_WORDS})
        encoder.origin |= {"weights": "random", "seed": options.seed}
        return encoder
    if options.weights is not None or entry.folder is not None:
        files = _read(Path(options.weights).expanduser() if options.weights is not None else entry.folder or Path())
    elif context.train_text is not None:
        train_text = context.train_text() if callable(context.train_text) else context.train_text
        files = trained_files(train_text, settings, options.seed, context)
    else:
        raise UsageError(
            f"{entry.name} has no public weights: it is trained on a data set's train questions, and none were given.",
            next="umecache extract --model lstm --data NAME (or --weights FOLDER of a trained one, or random)",
        )
    return load_lstm(files, name=entry.name, options=options)


def load_lstm(files: Mapping[str, bytes], *, name: str = "lstm", options: EncoderOptions | None = None) -> LstmEncoder:
    """The encoder from its two files, `weights.safetensors` and `vocab.json`, and nothing else.

    Raises:
        DataError: a file is missing, damaged or doesn't fit the other.
    """
    options = options or EncoderOptions()
    state, facts = unpack(files)
    shape = {key: tuple(tensor.shape) for key, tensor in state.items()}
    try:
        vocab_size, embedding_dim = shape["embedding.weight"]
        layers = len({key.split(".")[1] for key in shape if key.startswith("layers.")})
        dim = shape["layers.0.weight_hh_l0"][1]
        with seeded(0):  # overwritten at once, but the caller's random state is not ours to use up
            module = QuestionLSTM(vocab_size, embedding_dim, dim, layers)
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(f"{WEIGHTS} holds no LSTM of ours ({error}).", next="umecache extract --model lstm") from None
    load_into(module, state, source=WEIGHTS)
    tokenizer: WordVocab | HashedWords
    if "hashed_words" in facts:
        tokenizer = HashedWords(vocab_size, max_length=_limit(options.max_length, 3))
    else:
        tokenizer = WordVocab(facts["words"], max_length=_limit(options.max_length, 1))
        if len(tokenizer) != vocab_size:
            raise DataError(
                f"{VOCAB} has {len(tokenizer)} words, {WEIGHTS} rows for {vocab_size}.",
                next="umecache extract --model lstm",
            )
    encoder = LstmEncoder(name, module, tokenizer, options.layers)
    encoder.files = dict(files)
    training: Any = facts.get("training")
    if isinstance(training, dict):
        encoder.origin["training"] = training
    return encoder


def _read(path: Path) -> dict[str, bytes]:
    folder = path if path.is_dir() else path.parent
    weights = folder / WEIGHTS if path.is_dir() else path
    for file in (weights, folder / VOCAB):
        if not file.is_file():
            raise DataError(f"There is no {file}.", why="A trained lstm is two files.", next="--weights FOLDER")
    return {WEIGHTS: weights.read_bytes(), VOCAB: (folder / VOCAB).read_bytes()}


def _limit(max_length: int | None, least: int) -> int:
    if max_length is not None and max_length < least:
        raise UsageError(f"A maximum length of {max_length} leaves no room for text.", next=f"--max-length {least}")
    return MAX_LENGTH if max_length is None else max_length
