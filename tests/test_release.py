"""What a release says of itself, and that the check of releases finds what is missing.

The whole check (build, install, demo) is `make release-check`; it takes a minute and the network.
"""

from __future__ import annotations

import importlib.util
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release_check", ROOT / "scripts/release_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_citation_keeps_to_the_format() -> None:
    # https://github.com/citation-file-format/citation-file-format/blob/1.2.0/schema-guide.md
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert set(cited) <= {
        *("abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers", "keywords"),
        *("license", "license-url", "message", "preferred-citation", "references", "repository", "repository-artifact"),
        *("repository-code", "title", "type", "url", "version"),
    }
    assert cited["cff-version"] == "1.2.0"
    assert cited["type"] == "software"
    assert all(isinstance(word, str) for word in cited["keywords"])
    for work in (cited, *cited["references"]):
        assert work["title"]
        for author in work["authors"]:
            assert set(author) in ({"name"}, {"family-names", "given-names"})
    assert {work["type"] for work in cited["references"]} <= {"thesis", "article", "software"}


def test_the_citation_says_what_the_project_says() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == PROJECT["version"]
    assert cited["license"] == PROJECT["license"]
    assert cited["abstract"] == PROJECT["description"]
    assert cited["title"] == PROJECT["name"]


def test_the_version_stands_in_one_place() -> None:
    # Besides the citation, which the test above ties to it; the command reads the installed metadata.
    version = PROJECT["version"]
    found = [path for path in (ROOT / "umecache").rglob("*.py") if f'"{version}"' in path.read_text("utf-8")]
    assert found == []


def package_files() -> list[str]:
    files = [path for path in (ROOT / "umecache").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return [path.relative_to(ROOT).as_posix() for path in files]


def pack(folder: Path, wheel: list[str], sdist: list[str]) -> tuple[Path, Path]:
    with zipfile.ZipFile(folder / "w.whl", "w") as archive:
        for name in wheel:
            archive.writestr(name, "")
    with tarfile.open(folder / "s.tar.gz", "w:gz") as archive:
        for name in sdist:
            archive.addfile(tarfile.TarInfo(f"umecache-1/{name}"))
    return folder / "s.tar.gz", folder / "w.whl"


def test_complete_archives_pass(release: ModuleType, tmp_path: Path) -> None:
    files = package_files()
    release.check_contents(*pack(tmp_path, [*files, "umecache-1.dist-info/METADATA"], [*files, *release.SDIST_HOLDS]))


@pytest.mark.parametrize("gone", ["umecache/stores/reader.py", "umecache/fusion/pairs_cpu.c", "umecache/py.typed"])
def test_a_missing_file_is_named(release: ModuleType, tmp_path: Path, gone: str) -> None:
    files = package_files()
    fewer = [name for name in files if name != gone]
    with pytest.raises(SystemExit, match=f"the wheel lacks 1 files: {gone}"):
        release.check_contents(*pack(tmp_path, fewer, [*files, *release.SDIST_HOLDS]))
    with pytest.raises(SystemExit, match=f"the sdist lacks 1 files: {gone}"):
        release.check_contents(*pack(tmp_path, files, [*fewer, *release.SDIST_HOLDS]))


def test_what_does_not_belong_into_the_wheel_is_named(release: ModuleType, tmp_path: Path) -> None:
    files = package_files()
    with pytest.raises(SystemExit, match=r"no part of the package: \['tests/conftest.py'\]"):
        release.check_contents(*pack(tmp_path, [*files, "tests/conftest.py"], [*files, *release.SDIST_HOLDS]))


def test_what_the_sdist_should_hold_is_there(release: ModuleType) -> None:
    assert [name for name in release.SDIST_HOLDS if not (ROOT / name).is_file()] == []
