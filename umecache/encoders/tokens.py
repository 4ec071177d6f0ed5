"""Texts to token ids: what every text encoder shares, and two word tokenizers that need no files from elsewhere.

    WordVocab.build(questions)(["What color is it?"])         # `lstm`: the words of the train questions
    HashedWords(vocab_size=30522, pad_id=0)(["What color?"])  # `--weights random`: no tokenizer at hand

A tokenizer is called with texts and gives their ids, special tokens on, cut at its limit, never empty.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from umecache.encoders.base import Encoder, Prepared
from umecache.errors import DataError, UnreadableInput

_WORD = re.compile(r"\w+(?:'\w+)*|[^\w\s]")


class Tokenizer(Protocol):
    """What a text encoder asks of its tokenizer.

    Attributes:
        pad_id: the id that fills a batch's shorter rows.
        sha256: hash of all that decides token ids, except the limit.
    """

    pad_id: int
    sha256: str

    def __call__(self, texts: Sequence[str]) -> list[Prepared]:
        """Token ids [T] int64 of each text, T >= 1. Safe to call from threads."""

    def pieces(self, text: str) -> list[str]:
        """The tokens of a text in words, one for each of its ids: for people to read, not to be joined again."""


def as_text(item: str | bytes) -> str:
    """The item as a string that can be tokenized.

    Raises:
        UnreadableInput: it is not UTF-8, or holds half a character (a lone surrogate).
    """
    try:
        text = item.decode("utf-8") if isinstance(item, bytes) else item
        text.encode("utf-8")
    except UnicodeError as error:
        raise UnreadableInput("The text is not UTF-8.", why=str(error)) from None
    return text


def split_words(text: str) -> list[str]:
    """Lower-cased words (with their apostrophes) and punctuation marks."""
    return _WORD.findall(text.lower())


class TextEncoder(Encoder):
    """The CPU half of an encoder of texts; subclasses say `encode`.

    Attributes:
        tokenizer: texts to ids.
        vocab_size: rows of the embedding table; an id beyond them is an unreadable input, not a crash.
    """

    modality = "text"
    tokenizer: Tokenizer
    vocab_size: int

    def prepare(self, item: str | bytes) -> Prepared:
        """Token ids [T] int64."""
        return self.prepare_many([item])[0]

    def prepare_many(self, items: Sequence[str | bytes]) -> list[Prepared]:
        """Token ids of each text, tokenized as one batch."""
        prepared = self.tokenizer([as_text(item) for item in items]) if items else []
        for item, ids in zip(items, prepared, strict=True):
            if ids.max() >= self.vocab_size:
                raise UnreadableInput(
                    f"{item!r} has the token {ids.max()}, but the model knows {self.vocab_size} tokens.",
                    why="The tokenizer and the weights don't belong together, or the text spells a special token.",
                )
        return prepared

    def collate(self, prepared: Sequence[Prepared], pad_to: int | None = None) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` [B, T] int64, padded on the right.

        Raises:
            ValueError: `pad_to` is shorter than a text.
        """
        longest = max(map(len, prepared), default=0)
        width = longest if pad_to is None else pad_to
        if width < longest:
            raise ValueError(f"pad_to={pad_to}, but a text has {longest} tokens")
        ids_BT = torch.full((len(prepared), width), self.tokenizer.pad_id)
        mask_BT = torch.zeros_like(ids_BT)
        for row, ids in enumerate(prepared):
            ids_BT[row, : len(ids)] = torch.from_numpy(ids)
            mask_BT[row, : len(ids)] = 1
        return {"input_ids": ids_BT, "attention_mask": mask_BT}


class HashedWords:
    """Words to ids by hashing: the same ids everywhere, with no vocabulary to carry.

    For random weights, where no trained tokenizer means anything: start token, one id per word or punctuation mark
    (blake2b of its lower-cased UTF-8, modulo the vocabulary), end token. Two words may share an id.
    """

    RESERVED = 8  # ids below are kept for padding and the two marks

    def __init__(self, vocab_size: int, *, pad_id: int = 0, max_length: int | None = None) -> None:
        self.vocab_size, self.pad_id, self.max_length = vocab_size, pad_id, max_length
        # RoBERTa pads with 1, BERT with 0: the marks take the two lowest ids that are free.
        self.start_id, self.end_id = [i for i in range(3) if i != pad_id][:2]
        facts = {"kind": "hashed-words", "vocab_size": vocab_size, "marks": [self.start_id, self.end_id]}
        self.sha256 = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def __call__(self, texts: Sequence[str]) -> list[Prepared]:
        """Token ids [T] int64 of each text, start and end mark included."""
        return [self._encode(text) for text in texts]

    def pieces(self, text: str) -> list[str]:
        """The words between the two marks."""
        return ["[start]", *self._words(text), "[end]"]

    def _words(self, text: str) -> list[str]:
        words = split_words(text)
        return words if self.max_length is None else words[: self.max_length - 2]

    def _encode(self, text: str) -> Prepared:
        return np.array([self.start_id, *map(self._id, self._words(text)), self.end_id], dtype=np.int64)

    def _id(self, word: str) -> int:
        number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
        return self.RESERVED + number % (self.vocab_size - self.RESERVED)


class WordVocab:
    """The words of a corpus, numbered by frequency.

    Id 0 pads and id 1 stands for unknown words; a text without any word becomes one unknown word.
    """

    PAD, UNKNOWN = 0, 1
    FIRST = 2  # id of words[0]

    def __init__(self, words: Sequence[str], *, max_length: int | None = None) -> None:
        self.words, self.max_length, self.pad_id = tuple(words), max_length, self.PAD
        self._ids = {word: i for i, word in enumerate(self.words, self.FIRST)}
        if len(self._ids) != len(self.words):
            raise DataError("A vocabulary lists a word twice.", next="umecache extract --model lstm")
        facts = json.dumps({"kind": "words", "words": self.words}, sort_keys=True)
        self.sha256 = hashlib.sha256(facts.encode()).hexdigest()

    @classmethod
    def build(cls, texts: Iterable[str], *, min_count: int = 2, max_length: int | None = None) -> WordVocab:
        """The words seen at least `min_count` times: the rest train the unknown word."""
        counts = Counter(word for text in texts for word in split_words(text))
        words = sorted((w for w, n in counts.items() if n >= min_count), key=lambda word: (-counts[word], word))
        return cls(words, max_length=max_length)

    def __len__(self) -> int:
        return self.FIRST + len(self.words)

    def __call__(self, texts: Sequence[str]) -> list[Prepared]:
        """Token ids [T] int64 of each text."""
        return [self._encode(text) for text in texts]

    def pieces(self, text: str) -> list[str]:
        """The words, unknown ones too."""
        return split_words(text)[: self.max_length] or [""]

    def _encode(self, text: str) -> Prepared:
        return np.array([self._ids.get(word, self.UNKNOWN) for word in self.pieces(text)], dtype=np.int64)


def token_facts(tokenizer: Tokenizer, max_length: int | None) -> Mapping[str, int | str | None]:
    """The part of a recipe that decides token ids."""
    return {"tokenizer_sha256": tokenizer.sha256, "max_length": max_length, "truncation": "right"}
