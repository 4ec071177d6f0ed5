"""Answers as the official VQA evaluator normalises them, quirks included.

    >>> normalize("The 1,000 dollar-sign, dont!")
    "1000 dollarsign don't"

The steps, in this order (VQA API, `vqaEval.py`, github.com/GT-Vision-Lab/VQA; table in `_contractions.py`):

1. `clean`: newline and tab to space, then strip.
2. `remove_punctuation`: a mark is removed where the text has it beside a space, or has digit-comma-digit anywhere;
   else it becomes a space. Then a period that no digit follows is removed, at most 32 of them in one text.
3. `map_words`: lower case; none and zero .. ten to digits; a, an, the dropped; contractions mended, whole words only.

Published scores rest on these rules, so nothing here is put right: "colour:red" keeps its colon, and a text of 40
periods keeps eight of them.
"""

from __future__ import annotations

import re
from functools import lru_cache

from umecache.data._contractions import CONTRACTIONS

_MARKS = (";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!")
_ANY_MARK = re.compile("[" + re.escape("".join(_MARKS)) + "]")
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_LOOSE_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32  # the official code passes re.UNICODE, which is 32, where `sub` takes a count

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0", **{word: str(value) for value, word in enumerate(_NUMBERS)}}
_ARTICLES = frozenset(("a", "an", "the"))


def clean(text: str) -> str:
    """Newline and tab to space, then strip: the step that every protocol takes first."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def remove_punctuation(text: str) -> str:
    """Step 2 of the module docstring."""
    out = text
    if _ANY_MARK.search(text):  # most answers have none
        everywhere = _DIGIT_COMMA_DIGIT.search(text) is not None
        for mark in _MARKS:
            if mark in text:
                # Judged by the text as it came in, not by what the marks before have left of it.
                beside_space = mark + " " in text or " " + mark in text
                out = out.replace(mark, "" if everywhere or beside_space else " ")
    return _LOOSE_PERIOD.sub("", out, count=_MOST_PERIODS)


def map_words(text: str) -> str:
    """Step 3 of the module docstring."""
    words = (_DIGITS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


@lru_cache(maxsize=1 << 17)  # answers repeat: 591,640 of VQA v2 train are 30,479 different strings
def normalize(text: str) -> str:
    """All three steps."""
    return map_words(remove_punctuation(clean(text)))
