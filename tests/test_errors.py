"""Errors say what, why and what next; names that are nearly right are guessed."""

from __future__ import annotations

import pickle  # noqa: TID251  (what multiprocessing does with an error)

import pytest

from umecache.errors import JobFailed, MissingExtra, UmecacheError, UnknownName, UsageError


def test_parts_are_kept_and_joined() -> None:
    error = UsageError("what.", why="why.", next="do this")
    assert (error.what, error.why, error.next) == ("what.", "why.", "do this")
    assert str(error) == "what. why. do this"
    assert error.as_json() == {"what": "what.", "why": "why.", "next": "do this"}


@pytest.mark.parametrize(("kind", "status"), [(UsageError, 2), (JobFailed, 1), (UmecacheError, 2)])
def test_exit_statuses(kind: type[UmecacheError], status: int) -> None:
    assert kind("x").exit_status == status


@pytest.mark.parametrize("name", ["debreta-v3", "deberta-v", "DEBERTA-V3"])
def test_near_names_are_guessed(name: str) -> None:
    error = UnknownName("model", name, ["bert", "deberta-v3", "vit"], listing="umecache models")
    assert "deberta-v3" in error.why
    assert error.why.startswith("Did you mean")
    assert "umecache models" in error.next


def test_far_names_get_the_list() -> None:
    error = UnknownName("method", "zzzz", ["ume", "concat"], listing="umecache methods")
    assert "concat, ume" in error.why


@pytest.mark.parametrize(
    "error",
    [
        UsageError("a", why="b", next="c"),
        MissingExtra("s3fs", "s3", purpose="Reading s3://"),
        UnknownName("model", "brt", ["bert"], listing="umecache models"),
    ],
)
def test_errors_travel_between_processes(error: UmecacheError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert (back.what, back.why, back.next, str(back)) == (error.what, error.why, error.next, str(error))
