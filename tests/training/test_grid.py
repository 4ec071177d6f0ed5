"""Which methods share a pass, and what the checkpoints of passes are called."""

from __future__ import annotations

from typing import Any

import pytest

from umecache.training.config import CompareConfig
from umecache.training.grid import groups, pairs, pass_name

METHODS = ("concat", "ume")


@pytest.mark.parametrize(
    ("said", "shared", "names"),
    [
        ({}, [METHODS], ["heads-0"]),
        ({"text": ("a", "b")}, [METHODS], ["heads-0", "heads-1"]),
        ({"ray": "auto", "text": ("a", "b")}, [METHODS], ["heads-0", "heads-1"]),
        ({"ray": "auto"}, [("concat",), ("ume",)], ["heads-0.0", "heads-0.1"]),
    ],
)
def test_methods_share_a_pass_unless_one_pair_is_spread(
    said: dict[str, Any], shared: list[tuple[str, ...]], names: list[str]
) -> None:
    config = CompareConfig(methods=METHODS, **said)
    assert groups(config) == shared
    passes = [(cell, group) for cell in range(len(pairs(config))) for group in range(len(groups(config)))]
    assert [pass_name("heads", config, *each) for each in passes] == names


def test_every_pair_of_stores_is_a_cell() -> None:
    config = CompareConfig(methods=METHODS, text=("a", "b"), image=("c",))
    assert pairs(config) == [("a", "c"), ("b", "c")]
    assert pairs(CompareConfig(methods=METHODS)) == [(None, None)]
