"""Names to methods: complete entries, near names, a user's own file, an installed package's entry point."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from umecache.errors import UnknownName, UsageError
from umecache.fusion import registry
from umecache.fusion.base import Fusion
from umecache.fusion.registry import METHODS, build_fusion, load_fusion
from umecache.stores import plugins

DIMS = {"text": 5, "image": 7}
OWN = """
from torch import nn
from umecache.fusion.base import Fusion

class Mine(Fusion):
    def __init__(self, dims, *, width=256, dropout=0.0, tilt=1.0):
        super().__init__()
        self.out_dim = width
        self.tilt = tilt
        self.linear = nn.Linear(dims["text"], width)

    def forward(self, features):
        return self.tilt * self.linear(features["text"][0].mean(1))

class NotOne:
    pass
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A user's file."""
    (tmp_path / "mine.py").write_text(OWN)
    return tmp_path / "mine.py"


@pytest.mark.parametrize("name", METHODS)
def test_entry_matches_its_class(name: str) -> None:
    entry, cls = METHODS[name], load_fusion(name)
    assert entry.name == name
    assert f"{cls.__module__}:{cls.__name__}" == entry.target
    assert all((entry.equation, entry.citation, entry.summary))
    declared = {option.name: option.default for option in entry.options}
    signature = inspect.signature(cls).parameters.values()
    assert declared == {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}
    assert all(f"{option.name}:" in (cls.__doc__ or "") for option in entry.options), "every option has its line"
    module = sys.modules[cls.__module__]
    assert module.__doc__ is not None
    assert "f = " in module.__doc__ or "a and f as in" in module.__doc__


@pytest.mark.parametrize("name", METHODS)
def test_listed_values_are_taken(name: str) -> None:
    """Every value that `umecache methods` lists for an option can be set."""
    for option in METHODS[name].options:
        for value in option.values.split(" | ") if " | " in option.values else []:
            chosen = {"true": True, "false": False}.get(value, value)
            assert isinstance(build_fusion(name, DIMS, width=4, **{option.name: chosen}), Fusion)


def test_unknown_names_suggest_the_near_one() -> None:
    with pytest.raises(UnknownName, match="'ume-res'") as caught:
        load_fusion("ume_res")
    assert caught.value.next == "umecache methods lists them all."


def test_unknown_options_suggest_the_near_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'pairs'"):
        build_fusion("ume", DIMS, pair="all")
    with pytest.raises(UsageError, match="It has: width, dropout, input_norm"):
        build_fusion("concat", DIMS, zzz=1)


def test_too_few_modalities() -> None:
    with pytest.raises(UsageError, match="at least 2 modalities") as caught:
        build_fusion("product", {"text": 5})
    assert caught.value.why == "Given: text."
    assert build_fusion("ume", {"text": 5}, width=4).out_dim == 4


def test_a_users_own_file(mine: Path) -> None:
    fusion = build_fusion(f"{mine}:Mine", DIMS, width=8, tilt=2.0)
    assert fusion.out_dim == 8
    with pytest.raises(UsageError, match=r"no option 'tlt'.*Did you mean 'tilt'"):
        build_fusion(f"{mine}:Mine", DIMS, tlt=2.0)


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("{}:Mien", "Did you mean 'Mine'"),
        ("{}:NotOne", "subclass of umecache.fusion.base.Fusion"),
        ("{}", "no class"),
        ("{}:", "no class"),
        ("{}.gone.py:Mine", "There is no file"),
    ],
)
def test_a_file_that_will_not_do(mine: Path, reference: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        load_fusion(reference.format(mine))


def test_entry_points_of_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("gated", "umecache.fusion.concat:Concat", registry.ENTRY_POINTS)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == registry.ENTRY_POINTS else [])
    assert load_fusion("gated").__name__ == "Concat"
    with pytest.raises(UnknownName, match="gated"):
        load_fusion("gatd")


def test_a_package_on_the_path_offers_its_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pip lays it out: a module, and beside it the folder that says what it offers."""
    (tmp_path / "gated_fusion.py").write_text(OWN)
    info = tmp_path / "gated_fusion-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gated-fusion\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[umecache.fusions]\ngated = gated_fusion:Mine\nbroken = gated_fusion:NotOne\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert build_fusion("gated", DIMS, width=8, tilt=2.0).out_dim == 8
    with pytest.raises(UsageError, match="no option 'tlt'"):
        build_fusion("gated", DIMS, tlt=2.0)
    with pytest.raises(UsageError, match="subclass of"):
        load_fusion("broken")
    assert set(registry.offered_methods()) >= {"gated", "broken"}


def test_the_registry_is_light() -> None:
    code = "import sys, umecache.fusion.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
