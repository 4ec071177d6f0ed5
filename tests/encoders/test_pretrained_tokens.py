"""The tokenizers of checkpoints, against transformers' own call and SentencePiece itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.encoders.checkpoints import QUESTIONS, TRAINERS, tokenizer_files, write_checkpoint
from umecache.encoders.pretrained_tokens import PretrainedTokenizer, has_tokenizer
from umecache.errors import DataError, UsageError

TEXTS = [*QUESTIONS[:40], "", "  two  spaces ", "Émile's 中文 \U0001f600", "a\x00b", "CAPITALS", "unseenword 12,345"]


@pytest.mark.parametrize("kind", sorted(TRAINERS.keys() - {"wav2vec2", "hubert", "wavlm", "whisper"}))
@pytest.mark.parametrize("max_length", [None, 6])
def test_ids_are_those_of_transformers(tmp_path: Path, kind: str, max_length: int | None) -> None:
    from transformers import AutoTokenizer

    write_checkpoint(tmp_path, kind)
    tokenizer = PretrainedTokenizer(tmp_path)
    tokenizer.cut_at(max_length)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text, ids in zip(TEXTS, tokenizer(TEXTS), strict=True):
        expected = theirs(text, truncation=max_length is not None, max_length=max_length)["input_ids"]
        assert ids.dtype == np.int64
        assert ids.tolist() == (expected or [theirs.eos_token_id]), text


@pytest.mark.parametrize(("kind", "file"), [("deberta-v2", "spm.model"), ("t5", "spiece.model")])
def test_pieces_are_those_of_sentencepiece(tmp_path: Path, kind: str, file: str) -> None:
    import sentencepiece

    write_checkpoint(tmp_path, kind)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / file))
    start = 1 if kind == "deberta-v2" else 0  # [CLS] ... [SEP]; T5 adds </s> only
    for text, ids in zip(QUESTIONS, PretrainedTokenizer(tmp_path)(QUESTIONS), strict=True):
        assert ids.tolist()[start:-1] == processor.encode(text)


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta-v2", "t5"])
def test_every_token_has_a_piece_of_the_text(tmp_path: Path, kind: str) -> None:
    write_checkpoint(tmp_path, kind)
    tokenizer = PretrainedTokenizer(tmp_path)
    for text, ids in zip(QUESTIONS, tokenizer(QUESTIONS), strict=True):
        pieces = tokenizer.pieces(text)
        assert len(pieces) == len(ids) and all(pieces)
        plain = [piece for piece in pieces if piece.lower() in text.lower()]
        assert "".join(plain).lower() == text.replace(" ", "").lower()
        assert all(piece[0] in "[<\u2581\u0120" for piece in pieces if piece not in plain)  # marks, and lone spaces


def test_hash_knows_no_places(tmp_path: Path) -> None:
    hashes = {PretrainedTokenizer(write_checkpoint(tmp_path / name, "bert")).sha256 for name in "ab"}
    assert len(hashes) == 1


def test_hash_knows_no_file_forms(tmp_path: Path) -> None:
    """vocab.txt alone, and the tokenizer.json that transformers writes from it, with someone's truncation set."""
    from transformers import AutoTokenizer

    write_checkpoint(tmp_path / "a", "bert")
    write_checkpoint(tmp_path / "b", "bert")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "a")
    theirs.backend_tokenizer.enable_truncation(7)
    theirs.backend_tokenizer.enable_padding(length=9)
    theirs.save_pretrained(tmp_path / "b")
    (tmp_path / "b" / "vocab.txt").unlink(missing_ok=True)
    assert (tmp_path / "b" / "tokenizer.json").is_file()
    a, b = PretrainedTokenizer(tmp_path / "a"), PretrainedTokenizer(tmp_path / "b")
    assert a.sha256 == b.sha256
    assert [ids.tolist() for ids in b(TEXTS)] == [ids.tolist() for ids in a(TEXTS)]


def test_hash_follows_the_words(tmp_path: Path) -> None:
    first = PretrainedTokenizer(write_checkpoint(tmp_path, "bert"))
    words = (tmp_path / "vocab.txt").read_text().split("\n")
    words[60], words[61] = words[61], words[60]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    assert PretrainedTokenizer(tmp_path).sha256 != first.sha256


def test_limits(tmp_path: Path) -> None:
    assert PretrainedTokenizer(write_checkpoint(tmp_path / "bert", "bert")).limit == 512
    assert PretrainedTokenizer(write_checkpoint(tmp_path / "deberta", "deberta-v2")).limit is None


def test_no_room(tmp_path: Path) -> None:
    tokenizer = PretrainedTokenizer(write_checkpoint(tmp_path, "bert"))
    assert tokenizer.special_tokens == 2
    with pytest.raises(UsageError, match="2 special tokens"):
        tokenizer.cut_at(2)
    tokenizer.cut_at(3)
    assert len(tokenizer(["what color is the cat?"])[0]) == 3


def test_no_padding_token(tmp_path: Path) -> None:
    assert PretrainedTokenizer(write_checkpoint(tmp_path, "gpt2")).pad_id == 0  # its end-of-text token
    assert PretrainedTokenizer(write_checkpoint(tmp_path / "llama", "llama")).pad_id == 0


def test_tokenizers_in_plain_python(tmp_path: Path) -> None:
    """ByT5's reads bytes and has no vocabulary file; it is called through transformers, under a lock."""
    from transformers import AutoTokenizer, ByT5Tokenizer

    ByT5Tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    assert has_tokenizer(tmp_path)
    tokenizer = PretrainedTokenizer(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert [ids.tolist() for ids in tokenizer(TEXTS)] == [theirs(text)["input_ids"] for text in TEXTS]
    tokenizer.cut_at(5)
    assert all(len(ids) <= 5 for ids in tokenizer(TEXTS))
    assert tokenizer.sha256 == PretrainedTokenizer(tmp_path).sha256


def test_missing_and_damaged(tmp_path: Path) -> None:
    assert not has_tokenizer(tmp_path)
    with pytest.raises(DataError, match="holds no tokenizer"):
        PretrainedTokenizer(tmp_path)
    write_checkpoint(tmp_path, "t5")
    assert has_tokenizer(tmp_path)
    (tmp_path / "spiece.model").write_bytes(tokenizer_files("t5")["spiece.model"][:-50])
    with pytest.raises(DataError):
        PretrainedTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError):
        PretrainedTokenizer(tmp_path)


def test_an_empty_vocabulary(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "bert")
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    with pytest.raises(DataError, match="has no words"):
        PretrainedTokenizer(tmp_path)
