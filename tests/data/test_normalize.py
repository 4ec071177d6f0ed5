"""Normalisation against the official evaluator's own outputs, and against its rules written out the slow way."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umecache.data._contractions import CONTRACTIONS
from umecache.data.normalize import clean, map_words, normalize, remove_punctuation

ODD_TEXT = st.text(st.sampled_from(list("aA tT 019 .,;/[]\"{}()=+\\_-><@`?!':\n\t é٣")), max_size=40)
WORDS = st.lists(
    st.sampled_from(
        ["a", "The", "an", "none", "Ten", "two", "dont", "Im", "let's", "1,000", "x.", ".5", "(no)", "t-shirt"]
    )
).map(" ".join)


def by_the_rules(text: str) -> str:
    """The three steps, rule by rule, with no short cuts."""
    text = text.replace("\n", " ").replace("\t", " ").strip()
    out = text
    for mark in ';/[]"{}()=+\\_-><@`,?!':
        if mark + " " in text or " " + mark in text or re.search(r"\d,\d", text):
            out = "".join(out.split(mark))
        else:
            out = " ".join(out.split(mark))
    removed, kept = 0, ""
    for place, character in enumerate(out):
        followed_by_digit = re.match(r"\d", out[place + 1 : place + 2]) is not None
        if character == "." and not followed_by_digit and removed < 32:
            removed += 1
        else:
            kept += character
    numbers = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    words = []
    for word in kept.lower().split():
        word = "0" if word == "none" else str(numbers.index(word)) if word in numbers else word
        if word not in ("a", "an", "the"):
            words.append(CONTRACTIONS.get(word, word))
    return " ".join(words)


def test_every_official_case(shared: Path) -> None:
    cases = json.loads((shared / "eval" / "official-normalization.json").read_text())
    assert len(cases) == 1500
    assert [case["raw"] for case in cases if normalize(case["raw"]) != case["normalized"]] == []


def test_the_contraction_table_is_the_official_one(shared: Path) -> None:
    assert json.loads((shared / "eval" / "contractions.json").read_text()) == CONTRACTIONS


@given(st.one_of(ODD_TEXT, WORDS, st.text(max_size=30)))
def test_same_as_the_rules_written_out(text: str) -> None:
    assert normalize(text) == by_the_rules(text)


@pytest.mark.parametrize(
    ("raw", "normalized"),
    [
        ("", ""),
        ("the", ""),
        ("Yes.", "yes"),
        ("t-shirt", "t shirt"),  # no space beside the dash: it becomes one
        ("t- shirt", "t shirt"),  # a space beside it: it goes
        ("- t-shirt", "tshirt"),  # a space beside any of its kind will do
        ("1,000", "1000"),
        ("1,000 t-shirt", "1000 tshirt"),  # digit-comma-digit anywhere removes every mark
        ("3.5", "3.5"),
        ("3.5.", "3.5"),
        ("...", ""),
        ("." * 40, "." * 8),  # at most 32 periods
        ("None", "0"),
        ("ten ten", "10 10"),
        ("eleven", "eleven"),
        ("dont", "don't"),
        ("Id've", "id've"),  # the table has "Id've", which lower case never matches
        ("somebody'd", "somebodyd"),  # the table's own mistake
        ("colour:red", "colour:red"),
        ("what's 'up'", "what's 'up'"),
        ("red\nblue\tgreen", "red blue green"),
        ("  a  b  ", "b"),
        ("٣,٣ x-y", "٣٣ xy"),  # \d takes every script's digits
    ],
)
def test_quirks(raw: str, normalized: str) -> None:
    assert normalize(raw) == normalized


def test_the_steps_by_themselves() -> None:
    assert clean(" a\tb\n") == "a b"
    assert clean("a\r\n") == "a"
    assert remove_punctuation("The cat, a-b.") == "The cat a b"  # case and words are left alone
    assert map_words("The  CAT, two") == "cat, 2"
