"""Shares of time, and what they advise."""

from __future__ import annotations

import pytest

from umecache.extraction.shares import Part, Shares


def _shares(read: float, encode: float, write: float) -> Shares:
    return Shares({"read": read, "encode": encode, "write": write})


def test_words_and_fractions() -> None:
    assert _shares(3, 95, 2).words() == "read 3 %, encode 95 %, write 2 %"
    assert sum(_shares(1, 2, 3).fractions().values()) == pytest.approx(1)
    assert set(Shares().fractions().values()) == {0.0}, "nothing measured, nothing divided"


@pytest.mark.parametrize(
    ("shares", "word"),
    [
        (_shares(30, 60, 10), "--workers"),
        (_shares(10, 50, 40), "disk"),
        (_shares(10, 80, 10), None),
        (_shares(1, 1, 0), None),  # too short to say
    ],
)
def test_a_hint_only_where_the_encoder_waits(shares: Shares, word: str | None) -> None:
    hint = shares.hint()
    assert hint is None if word is None else word in str(hint)


@pytest.mark.parametrize("part", ["read", "encode", "write"])
def test_time_is_added_up_even_when_something_fails(part: Part) -> None:
    shares = Shares()
    for _ in range(2):
        with pytest.raises(KeyError), shares.of(part):
            raise KeyError
    assert shares.seconds[part] > 0
    assert sum(seconds > 0 for seconds in shares.seconds.values()) == 1
