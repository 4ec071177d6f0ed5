"""Commands on the pages are ones that the tool takes, links lead somewhere, every page is in the navigation."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, commands, links, parse

COMMANDS = [(page.name, words) for page in PAGES for words in commands(page)]


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)}"[:90] for page, words in COMMANDS]
)
def test_commands_are_ones_that_the_tool_takes(page: str, words: list[str]) -> None:
    parse(words)


def test_an_unknown_flag_would_be_seen() -> None:
    for wrong in (["fuse", "--methd", "ume"], ["store", "lst"], ["store", "gc", "--forse"]):
        with pytest.raises(Exception, match=r"(?i)no such"):
            parse(wrong)
    assert len(COMMANDS) > 90


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", there.read_text("utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target


def test_every_page_is_in_the_navigation_and_on_the_first_page() -> None:
    pages = {page.name for page in DOCS.glob("*.md") if not page.name.startswith("reference-")}
    text = (ROOT / "zensical.toml").read_text("utf-8")
    assert set(re.findall(r'"([\w-]+\.md)"', text)) - {"reference-commands.md", "reference-python.md"} == pages
    assert pages - {"index.md"} <= set(re.findall(r"\(([\w-]+\.md)\)", (DOCS / "index.md").read_text("utf-8")))
    tomllib.loads(text)
