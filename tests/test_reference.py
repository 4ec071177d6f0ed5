"""The reference pages say everything that the tool says of itself, and write the same again."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import umecache
from tests.cli.test_manual import COMMANDS, LEAVES
from umecache.cli.manual import EPILOGUE, parts

SCRIPT = Path(__file__).parents[1] / "scripts/write_reference.py"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    runpy.run_path(str(SCRIPT))["main"](folder)
    return folder


def test_commands(pages: Path) -> None:
    text = (pages / "reference-commands.md").read_text("utf-8")
    sections = {block.partition("\n")[0].strip("# "): block for block in text.split("\n#")}
    for path, command, context in COMMANDS:
        for param in command.get_params(context):
            shown = param.opts[-1] if param.param_type_name == "option" else param.metavar or param.name.upper()
            assert param.name == "help" or shown in sections[path], (path, shown)
    for path, command, _ in LEAVES:
        for line in parts(command)[2]:
            assert f"\n{line}\n" in sections[path]
    for title in EPILOGUE:
        assert text.count(f"| {title} | |\n") == 1
    assert "{" not in text.replace('[{"question_id": 1, "answer": "yes"}', "")


def test_python(pages: Path) -> None:
    text = (pages / "reference-python.md").read_text("utf-8")
    for name in umecache.__all__:
        if not name.startswith("_"):
            assert f"\n## {name}\n" in text
    assert "TODO" not in text


def test_written_again_it_is_the_same(pages: Path, tmp_path: Path) -> None:
    runpy.run_path(str(SCRIPT))["main"](tmp_path)
    for page in pages.iterdir():
        assert (tmp_path / page.name).read_bytes() == page.read_bytes()
