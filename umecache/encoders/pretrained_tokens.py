"""The tokenizer that belongs to a checkpoint: tokenizer.json, WordPiece, byte-level BPE or SentencePiece files.

    tokenizer = PretrainedTokenizer(folder, max_length=512)
    tokenizer(["What color is the cat?"])

transformers reads the files; a tokenizer of the `tokenizers` library is then called directly, because transformers'
wrapper sets truncation and padding on a shared object at each call and so fails when threads call it side by side.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from umecache.encoders.base import Prepared
from umecache.encoders.quiet import quiet_transformers
from umecache.errors import DataError, UsageError

_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken")
_FILELESS = ("ByT5Tokenizer", "CanineTokenizer")  # bytes and code points need no vocabulary
_UNLIMITED = 10**9  # transformers writes "no limit" as 10**30


def has_tokenizer(folder: Path) -> bool:
    """Whether a checkpoint folder brings a tokenizer."""
    if any(next(folder.glob(pattern), None) for pattern in _FILES):
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and any(name in config.read_text(encoding="utf-8") for name in _FILELESS)


class PretrainedTokenizer:
    """Texts to ids as the checkpoint's own tokenizer does it, special tokens on.

    A tokenizer that adds no special tokens (GPT-2's) gives nothing for an empty text; the text then becomes one
    end-of-text token (else start, padding or id 0), because a record needs a token.

    Attributes:
        limit: the most tokens that the tokenizer itself declares, None where it declares none.
        token_types: segment ids of (special tokens before the text, the text, special tokens after it), or None where
            the tokenizer gives none.
    """

    def __init__(self, folder: Path) -> None:
        """Read the tokenizer of a checkpoint folder.

        Raises:
            DataError: there is none, or it can't be read.
        """
        self._tokenizer = _load(folder)
        self._fast = getattr(self._tokenizer, "backend_tokenizer", None)
        self._lock = threading.Lock()  # for tokenizers in plain Python, which promise nothing
        declared = self._tokenizer.model_max_length
        self.limit: int | None = declared if 0 < declared < _UNLIMITED else None
        self.max_length: int | None = None
        special_ids = (getattr(self._tokenizer, f"{kind}_token_id", None) for kind in ("eos", "bos", "pad"))
        self._empty_id = next((i for i in special_ids if i is not None), 0)
        pad = self._tokenizer.pad_token_id
        self.pad_id: int = self._empty_id if pad is None else pad
        self.special_tokens, self.token_types = self._probe()
        self.sha256 = self._hash(folder)
        self.cut_at(self.limit)

    def cut_at(self, max_length: int | None) -> None:
        """Cut texts to `max_length` tokens, the special ones included; None: never.

        Raises:
            UsageError: no room for a single token of the text.
        """
        if max_length is not None and max_length <= self.special_tokens:
            raise UsageError(
                f"A maximum length of {max_length} leaves no room for text.",
                why=f"This tokenizer adds {self.special_tokens} special tokens to each.",
                next=f"--max-length {self.special_tokens + 1} or more",
            )
        self.max_length = max_length
        if self._fast is not None:
            self._fast.no_padding()
            if max_length is None:
                self._fast.no_truncation()
            else:
                self._fast.enable_truncation(max_length, strategy="longest_first", direction="right")

    def __call__(self, texts: Sequence[str]) -> list[Prepared]:
        """Token ids [T] int64 of each text."""
        rows: list[list[int]]
        if self._fast is not None:
            rows = [encoding.ids for encoding in self._fast.encode_batch(list(texts), add_special_tokens=True)]
        else:
            with self._lock, quiet_transformers():
                cut = {"truncation": self.max_length is not None, "max_length": self.max_length}
                rows = self._tokenizer(list(texts), add_special_tokens=True, **cut)["input_ids"]
        return [np.array(row or [self._empty_id], dtype=np.int64) for row in rows]

    def pieces(self, text: str) -> list[str]:
        """What each token stands for in the text; special tokens by their own names."""
        [ids] = self([text])
        named = [str(name) for name in self._tokenizer.convert_ids_to_tokens(ids.tolist())]
        spans = self._fast.encode(text, add_special_tokens=True).offsets if self._fast is not None else []
        if len(spans) != len(named):
            spans = [(0, 0)] * len(named)
        found = []
        for name, (first, end) in zip(named, spans, strict=True):
            bare = name.removeprefix("##").strip(
                "\u2581\u0120"
            )  # the marks of WordPiece, SentencePiece, byte-level BPE
            # Byte-level names of other letters than ASCII are unreadable: what they stand for is in the text.
            readable = not bare or bare.lower() in text.lower()
            found.append((bare if readable else text[first:end].strip()) or name)
        return found

    def _probe(self) -> tuple[int, tuple[tuple[int, ...], int, tuple[int, ...]] | None]:
        """How many special tokens there are, and the segment ids of a text, learnt from one short text."""
        with quiet_transformers():
            probe = self._tokenizer("a", return_special_tokens_mask=True)
        special = probe["special_tokens_mask"]
        before = next((i for i, s in enumerate(special) if not s), len(special))
        after = next((i for i, s in enumerate(reversed(special)) if not s), 0)
        types = probe.get("token_type_ids")
        if types is None:
            return before + after, None
        body = types[before] if before < len(types) else 0
        return before + after, (tuple(types[:before]), body, tuple(types[len(types) - after :]))

    def _hash(self, folder: Path) -> str:
        """Over the tokenizer's own serialisation, so that vocab.txt and the tokenizer.json made of it agree."""
        digest = hashlib.sha256()
        if self._fast is not None:
            facts = json.loads(self._fast.to_str())
            facts = {key: facts[key] for key in facts if key not in ("version", "truncation", "padding")}
            digest.update(json.dumps(facts, sort_keys=True).encode())
        else:
            digest.update(type(self._tokenizer).__name__.encode())
            digest.update(json.dumps(sorted(self._tokenizer.get_vocab().items())).encode())
            for path in sorted(path for pattern in _FILES for path in folder.glob(pattern)):
                digest.update(path.read_bytes())
        return digest.hexdigest()


def _load(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not has_tokenizer(folder):
        raise DataError(
            f"{folder} holds no tokenizer.",
            why="Without the one the weights were trained with, token ids mean nothing.",
            next=f"put tokenizer.json, vocab.txt, vocab.json + merges.txt or the SentencePiece model into {folder}",
        )
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # each tokenizer family fails in its own way
        raise DataError(
            f"The tokenizer in {folder} can't be read.",
            why=f"{type(error).__name__}: {error}".splitlines()[0][:200],
            next="hf download ORG/NAME (its tokenizer files)",
        ) from None
    # Unreadable SentencePiece files are only logged by transformers, which goes on with an empty vocabulary.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise DataError(
            f"The tokenizer in {folder} has no words.",
            why="Its vocabulary file is missing or damaged.",
            next="hf download ORG/NAME (its tokenizer files)",
        )
    return tokenizer
