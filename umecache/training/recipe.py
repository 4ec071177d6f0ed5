"""Recipes: settings under a name, with the figures of their source.

    umecache extract --recipe thesis-a           # the encoders that its settings name
    umecache compare --recipe thesis-a
    umecache fuse --recipe ./mine.toml --method ume

A recipe is a TOML file: `[settings]` holds fields of `CompareConfig` (flags given beside a recipe win over it),
`[settings.facts.image]` what the image stores must have been made with (such as `image_size`), `[[figures]]` what the
source reports, printed beside ours and always as the source's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from umecache.errors import UnknownName, UsageError
from umecache.training.config import CompareConfig, FuseConfig, TrainConfig

_FUSE_FIELDS = {"method", "method_args", "lr"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One accuracy that a source reports."""

    method: str
    text: str  # the encoders' short names
    image: str
    mean: float  # percent
    std: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe file."""

    ref: str  # as it was asked for: a name, or a file
    name: str
    title: str
    source: str
    differs: tuple[str, ...]  # what is not as in the source, one sentence each
    settings: Mapping[str, Any]
    figures: tuple[Figure, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """The encoders of its stores."""
        return (*self.settings.get("text", ()), *self.settings.get("image", ()))

    @property
    def image_size(self) -> int | None:
        """Pixels that its image stores must have been made with."""
        size = self.settings.get("facts", {}).get("image", {}).get("image_size")
        return None if size is None else int(size)

    @property
    def extract(self) -> str:
        """The command that makes its stores; empty where it names none."""
        return f"umecache extract --recipe {self.ref}" if self.models else ""

    def figure(self, method: str, text: str | None, image: str | None) -> Figure | None:
        """The source's figure for a row of ours."""
        wanted = (method, text, image)
        return next((each for each in self.figures if (each.method, each.text, each.image) == wanted), None)


def shipped() -> tuple[str, ...]:
    """The names of the recipes in the package."""
    folder = resources.files("umecache.training") / "recipes"
    return tuple(sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")))


def load_recipe(ref: str) -> Recipe:
    """A shipped recipe by name, or a file.

    Raises:
        UnknownName: neither.
        UsageError: a file that is no recipe.
    """
    path = Path(ref)
    if ref in shipped():
        text = (resources.files("umecache.training") / "recipes" / f"{ref}.toml").read_text("utf-8")
    elif path.is_file():
        text = path.read_text("utf-8")
    else:
        raise UnknownName("recipe", ref, shipped(), listing="umecache compare --help")
    try:
        return _read(ref, path.stem if path.suffix else ref, tomllib.loads(text))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{ref} is not a recipe.", why=f"{type(error).__name__}: {error}.") from error


def fuse_config(recipe: str | None, said: Mapping[str, Any]) -> FuseConfig:
    """The configuration of `fuse`: defaults, then the recipe, then what was said (None: not said).

    A recipe's lists of methods and stores don't bind `fuse`, which takes one of each: where they have one entry it is
    taken, else it is to be said.
    """
    settings = dict(load_recipe(recipe).settings) if recipe else {}
    for several, one in (("methods", "method"), ("text", "text"), ("image", "image")):
        values = settings.pop(several, ())
        if len(values) == 1:
            settings[one] = values[0]
        elif values and said.get(one) is None:
            raise UsageError(
                f"The recipe {recipe!r} names several {several} ({', '.join(values)}).",
                why="fuse takes one.",
                next=f"--{one} {values[0]}, or umecache compare --recipe {recipe}",
            )
    return FuseConfig(**_merged(FuseConfig, settings, said))


def compare_config(recipe: str | None, said: Mapping[str, Any]) -> CompareConfig:
    """The configuration of `compare`: defaults, then the recipe, then what was said (None: not said)."""
    settings = dict(load_recipe(recipe).settings) if recipe else {}
    return CompareConfig(**_merged(CompareConfig, settings, {**said, "recipe": recipe}))


def _merged(kind: type[TrainConfig], settings: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    known = {each.name for each in fields(kind)}
    merged = {name: value for name, value in settings.items() if name in known}
    return merged | {name: value for name, value in said.items() if value is not None}


def _read(ref: str, name: str, document: Mapping[str, Any]) -> Recipe:
    settings = dict(document.get("settings", {}))
    known = {each.name for each in fields(CompareConfig)} - {"recipe", "out", "overwrite"}
    if unknown := sorted(set(settings) - known):
        raise ValueError(f"[settings] has {unknown[0]!r}; known are {', '.join(sorted(known))}")
    facts = settings.get("facts", {})
    if not all(isinstance(each, dict) for each in (facts, *dict(facts).values())):
        raise ValueError("[settings.facts.MODALITY] holds KEY = VALUE lines")
    for key, value in settings.items():
        if isinstance(value, list):
            settings[key] = tuple(value)
    figures = tuple(
        Figure(
            method=each["method"],
            text=each["text"],
            image=each["image"],
            mean=100.0 * float(each["mean"]),
            std=100.0 * float(each["std"]),
        )
        for each in document.get("figures", ())
    )
    return Recipe(
        ref=ref,
        name=name,
        title=str(document.get("title", name)),
        source=str(document.get("source", "")),
        differs=tuple(document.get("differs", ())),
        settings=settings,
        figures=figures,
    )
