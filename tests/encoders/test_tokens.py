"""Word tokenizers, and what all text encoders share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from umecache.encoders.tokens import HashedWords, TextEncoder, WordVocab, as_text, split_words
from umecache.errors import DataError, UnreadableInput


def test_split_words() -> None:
    assert split_words("What color's the CAT? (it's 2.5m)") == [
        "what", "color's", "the", "cat", "?", "(", "it's", "2", ".", "5m", ")",
    ]  # fmt: skip
    assert split_words(" \n\t") == []
    assert split_words("Émile 中文") == ["émile", "中文"]


def test_as_text() -> None:
    assert as_text("é") == as_text("é".encode()) == "é"
    for broken in (b"\xff", "\ud800"):
        with pytest.raises(UnreadableInput, match="not UTF-8"):
            as_text(broken)


# Hashed words


def test_hashed_words_are_the_same_everywhere() -> None:
    """Pinned numbers: another machine, Python or hash seed must give them too."""
    (ids,) = HashedWords(30522)(["What color is the cat?"])
    assert ids.tolist() == [1, 4107, 24861, 4438, 22120, 30055, 4305, 2]


@pytest.mark.parametrize(("pad", "marks"), [(0, (1, 2)), (1, (0, 2)), (5, (0, 1))])
def test_hashed_words_leave_the_padding_alone(pad: int, marks: tuple[int, int]) -> None:
    tokenizer = HashedWords(50, pad_id=pad)
    assert (tokenizer.start_id, tokenizer.end_id) == marks
    for ids in tokenizer([f"word{i}" for i in range(200)]):
        assert ids[0] == marks[0]
        assert ids[-1] == marks[1]
        assert HashedWords.RESERVED <= ids[1] < 50


@given(st.text(), st.integers(3, 12))
def test_hashed_words_fit(text: str, max_length: int) -> None:
    (ids,) = HashedWords(100, max_length=max_length)([text])
    assert 2 <= len(ids) <= max_length
    assert ids.dtype == np.int64
    assert ids.max() < 100


def test_hash_of_hashed_words() -> None:
    hashes = {HashedWords(100).sha256, HashedWords(101).sha256, HashedWords(100, pad_id=1).sha256}
    assert len(hashes) == 3
    assert HashedWords(100, max_length=5).sha256 == HashedWords(100).sha256


# Words of a corpus


TEXTS = ["what is this?", "What is that?", "is it red?"]


def test_vocabulary() -> None:
    vocab = WordVocab.build(TEXTS)
    assert vocab.words == ("?", "is", "what")  # the most frequent first, then by the alphabet; once is too rare
    assert len(vocab) == 5
    assert [ids.tolist() for ids in vocab(["WHAT is red?", ""])] == [[4, 3, 1, 2], [1]]


def test_vocabulary_limits() -> None:
    assert WordVocab.build(TEXTS, min_count=1).words[:3] == ("?", "is", "what")
    assert len(WordVocab.build(TEXTS, min_count=1)) == 2 + 7
    assert len(WordVocab.build(TEXTS, max_length=2)(["what is this?"])[0]) == 2
    assert WordVocab.build([]).words == ()


def test_vocabulary_does_not_depend_on_order() -> None:
    assert WordVocab.build(TEXTS).sha256 == WordVocab.build(TEXTS[::-1]).sha256
    assert WordVocab.build(TEXTS).sha256 != WordVocab.build(TEXTS, min_count=1).sha256


def test_a_word_twice_is_refused() -> None:
    with pytest.raises(DataError):
        WordVocab(["a", "a"])


@given(st.text())
def test_vocabulary_always_gives_a_token(text: str) -> None:
    (ids,) = WordVocab.build(TEXTS)([text])
    assert len(ids) >= 1
    assert 1 <= ids.min() <= ids.max() < 5


# The shared half of text encoders


class Plain(TextEncoder):
    """Just enough to be made."""

    def __init__(self, vocab_size: int = 5) -> None:
        self.tokenizer, self.vocab_size = WordVocab.build(TEXTS), vocab_size

    def encode(self, batch):  # type: ignore[no-untyped-def]
        raise NotImplementedError


def test_collate() -> None:
    encoder = Plain()
    prepared = encoder.prepare_many(["what is?", "is"])
    batch = encoder.collate(prepared)
    assert batch["input_ids"].tolist() == [[4, 3, 2], [3, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
    assert encoder.collate(prepared, pad_to=5)["input_ids"].shape == (2, 5)
    assert encoder.collate([], pad_to=4)["input_ids"].shape == (0, 4)
    with pytest.raises(ValueError, match="pad_to=2"):
        encoder.collate(prepared, pad_to=2)


def test_ids_beyond_the_table() -> None:
    with pytest.raises(UnreadableInput, match="the model knows 4 tokens"):
        Plain(vocab_size=4).prepare("what")


@pytest.mark.parametrize("text", ["What's on the table?", "", "a b c d e f g h"])
@pytest.mark.parametrize("max_length", [None, 4])
def test_pieces_are_as_many_as_ids(text: str, max_length: int | None) -> None:
    for tokenizer in (HashedWords(100, max_length=max_length), WordVocab(["table"], max_length=max_length)):
        assert len(tokenizer.pieces(text)) == len(tokenizer([text])[0])
    assert WordVocab(["a"]).pieces("A red a?") == ["a", "red", "a", "?"]
    assert HashedWords(100).pieces("Red?") == ["[start]", "red", "?", "[end]"]
