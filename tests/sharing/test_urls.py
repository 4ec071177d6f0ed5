"""What of a URL may be written down, and how the rest is found again."""

from __future__ import annotations

import pytest

from umecache.sharing.urls import private, public, public_facts, url_above, url_below

SECRETS = [
    ("https://lab.org/vit?token=s3cret", "https://lab.org/vit"),
    ('https://lab.org/vit?token=it\'s "s3cret"', "https://lab.org/vit"),
    ("https://s3cret@lab.org/vit/", "https://lab.org/vit/"),
    ("https://me:s3cr@t@lab.org:8080/vit?a=s3cret#s3cret", "https://lab.org:8080/vit"),
    ("ssh://me:s3cret@lab.org:22/vit", "ssh://me@lab.org:22/vit"),
    ("HTTPS://lab.org/vit?token=s3cret", "HTTPS://lab.org/vit"),
    (
        "403 for url: https://cdn.org/x?X-Amz-Signature=s3cret (Request ID: 1)",
        "403 for url: https://cdn.org/x (Request ID: 1)",
    ),
    ("ssh://me:s3cret@lab.org or https://lab.org/x?s3cret, 'https://y?s3cret'", None),
]
HARMLESS = [
    "https://lab.org/vit",
    "ssh://me@lab.org:22/vit",
    "s3://bucket/vit",
    "hf://datasets/lab/features@v2/vit",
    "/lab/vit",
    "What is it? See https://lab.org/vit.",
]


@pytest.mark.parametrize(("said", "shown"), SECRETS)
def test_what_may_be_seen(said: str, shown: str | None) -> None:
    assert "s3cr" not in public(said)
    assert shown is None or public(said).split() == shown.split()
    assert public(public(said)) == public(said)


@pytest.mark.parametrize("text", HARMLESS)
def test_the_rest_stays_as_it_is(text: str) -> None:
    assert public(text) == text


def test_a_document() -> None:
    said = {"image": "https://lab.org/vit?token=s", "seeds": (1, 2), "features": {"text": "https://a:b@c/d"}, "n": None}
    assert public_facts(said) == {
        "image": "https://lab.org/vit",
        "seeds": [1, 2],
        "features": {"text": "https://c/d"},
        "n": None,
    }


def test_the_secret_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ["https://lab.org/a?token=1", "https://lab.org/a/b/?token=2", "https://me:pw@lab.org/c", "ssh://me:pw@h/x"]
    monkeypatch.setenv("UMECACHE_URLS", "  ".join(known))
    assert private("https://lab.org/a") == "https://lab.org/a?token=1"
    assert private("https://lab.org/a/val/x%20y") == "https://lab.org/a/val/x%20y?token=1"
    assert private("https://lab.org/a/b/val") == "https://lab.org/a/b/val?token=2"  # the nearest folder
    assert private("https://lab.org/c/val") == "https://me:pw@lab.org/c/val"
    assert private("ssh://me@h/x/val") == "ssh://me:pw@h/x/val"
    for other in ("https://lab.org/ab", "http://lab.org/a", "https://evil.org/a", "https://lab.org/a?token=mine", "/x"):
        assert private(other) == other


def test_up_and_down() -> None:
    assert url_below("https://lab.org/a/?t=1", "val/x y") == "https://lab.org/a/val/x%20y?t=1"
    assert url_below("https://lab.org/a?t=1", "") == "https://lab.org/a?t=1"
    assert url_below("s3://bucket/a/", "val") == "s3://bucket/a/val"
    assert url_above("https://lab.org/a/val/?t=1") == "https://lab.org/a?t=1"
