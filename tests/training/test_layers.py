"""Layers in the name of a store."""

from __future__ import annotations

import pytest

from umecache.training.layers import is_layer, same_but_layers, spread, stored_layer


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        (None, [("text", None, None)]),
        ("minilm", [("text", "minilm", None)]),
        ("minilm@-4", [("text", "minilm", "-4")]),
        ("minilm@last,-4", [("text@last", "minilm", "last"), ("text@-4", "minilm", "-4")]),
        ("minilm@-4,-4", [("text", "minilm", "-4")]),
        ("hf:org/name@main", [("text", "hf:org/name@main", None)]),  # a revision
        ("hf:org/name@main@-2", [("text", "hf:org/name@main", "-2")]),
        ("a, ./b", [("text@1", "a", None), ("text@2", "./b", None)]),
    ],
)
def test_spread(ref: str | None, expected: list[tuple[str, str | None, str | None]]) -> None:
    assert spread("text", ref) == expected


def test_which_layer_a_store_holds() -> None:
    last, fourth = {"recipe": {"layers": "last"}}, {"recipe": {"layers": "-4"}}
    assert (stored_layer({}), stored_layer(fourth)) == ("last", "-4")
    assert [is_layer(last, layer) for layer in (None, "last", "-1", "-4")] == [True, True, True, False]
    assert [is_layer(fourth, layer) for layer in (None, "last", "-1", "-4")] == [True, False, False, True]


def test_recipes_of_one_encoder() -> None:
    one = {"weights_sha256": "a", "layers": "last"}
    assert same_but_layers(one, {**one, "layers": "-4"})
    assert not same_but_layers(one, {"weights_sha256": "b", "layers": "-4"})
