"""How a name becomes an encoder; the table of names is `umecache.encoders.models`.

    load_encoder("bert")                            # a short name
    load_encoder("hf:answerdotai/ModernBERT-base")  # any text model of the hub that transformers knows
    load_encoder("timm:convnext_tiny.fb_in1k")      # any image model of timm
    load_encoder("../checkpoints/my-bert")          # a local folder with a config.json
    load_encoder("./mine.py:ENTRY")                 # a ModelEntry in a file of yours

Installed packages offer encoders through the entry point group `umecache.encoders` (each a ModelEntry). Nothing here
imports torch until an encoder is loaded.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pkgutil
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from umecache.encoders.models import AUDIO_TYPES, LSTM, MODELS, ModelEntry, audio_entry, image_entry, text_entry
from umecache.errors import DataError, UnknownName, UsageError
from umecache.stores import plugins

if TYPE_CHECKING:
    from umecache.encoders.base import Encoder, EncoderOptions, LoadContext

__all__ = ["MODELS", "ModelEntry", "load_encoder", "offered_models", "read_config", "refuse_joint", "resolve"]

LISTING = "umecache models"
ENTRY_POINTS = "umecache.encoders"
_JOINT_TYPES = {"vilt", "visual_bert", "lxmert", "bridgetower", "chinese_clip", "layoutlmv2", "layoutlmv3", "uniter"}


def resolve(ref: str, modality: str | None = None) -> ModelEntry:
    """The entry that `ref` names: a short name, `hf:ORG/NAME[@REVISION]`, `timm:NAME` or a local folder.

    Args:
        modality: refuse an encoder of another one.

    Raises:
        UnknownName: no such short name; says the nearest.
        UsageError: no such folder, or a model that isn't an encoder of one modality.
        PluginBroken: the package that offers it can't be imported.
    """
    entry = _resolve(ref)
    if modality is not None and entry.modality != modality:
        fitting = ", ".join(name for name, known in MODELS.items() if known.modality == modality)
        raise UsageError(
            f"{ref!r} is an encoder of {_plural(entry.modality)}, not of {_plural(modality)}.",
            why=f"Encoders of {_plural(modality)}: {fitting}.",
            next=LISTING,
        )
    return entry


def load_encoder(ref: str, options: EncoderOptions | None = None, context: LoadContext | None = None) -> Encoder:
    """Load the encoder that `ref` names, frozen, on the CPU.

    Raises:
        UmecacheError: an unknown name, missing files, weights that don't fit, options that can't be.
    """
    from umecache.encoders.base import Encoder, EncoderOptions, LoadContext

    entry = resolve(ref)
    build = pkgutil.resolve_name(entry.builder) if isinstance(entry.builder, str) else entry.builder
    encoder = build(entry, options or EncoderOptions(), context or LoadContext())
    if not isinstance(encoder, Encoder):
        raise UsageError(
            f"The builder of {ref!r} gave a {type(encoder).__name__}.",
            why="It has to give an umecache.encoders.base.Encoder.",
            next=LISTING,
        )
    return encoder


def offered_models() -> dict[str, EntryPoint]:
    """Encoders that installed packages offer, by name."""
    return plugins.offered(ENTRY_POINTS)


def refuse_joint(config: Mapping[str, Any], source: str) -> None:
    """Raise UsageError if a model's configuration is of one that reads text and images together."""
    kind = str(config.get("model_type") or config.get("architecture") or "model")
    joint = "vision_config" in config and "text_config" in config
    if joint or "model_cfg" in config or kind in _JOINT_TYPES:  # model_cfg: OpenCLIP
        raise UsageError(
            f"{source} is a joint text-and-image model ({kind}).",
            why="umecache caches encoders of one modality each and learns their fusion.",
            next=LISTING,
        )


def _plural(modality: str) -> str:
    return {"text": "texts", "image": "images", "audio": "sounds"}.get(modality, modality)


def _resolve(ref: str) -> ModelEntry:
    if ref in MODELS:
        return MODELS[ref]
    prefix, _, rest = ref.partition(":")
    if prefix == "hf" and rest:
        return _hub_entry(ref, rest)
    if prefix == "timm" and rest:
        return _timm_entry(ref, rest)
    if prefix.endswith(".py"):
        return _file_entry(prefix, rest)
    path = Path(ref).expanduser()
    if path.is_dir():
        return _folder_entry(path)
    if path.is_file():
        raise UsageError(
            f"{ref} is a file; a model is a name or a folder.",
            why="A weights file does not say which architecture it is for.",
            next=f"umecache extract --model NAME --weights {ref}",
        )
    if ref.startswith((".", "~", os.sep)) or ref.count("/") > 1:
        raise UsageError(f"There is no folder {ref}.", next=LISTING)
    if "/" in ref:
        raise UnknownName("model", ref, [f"hf:{ref}", f"timm:hf-hub:{ref}"], listing=LISTING)
    offered = offered_models()
    if ref in offered:
        return _checked(plugins.load(offered[ref]), ref)
    raise UnknownName("model", ref, {*MODELS, *offered}, listing=LISTING)


def _file_entry(path: str, attribute: str) -> ModelEntry:
    """The ModelEntry that a file of the user's defines."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(f"There is no file {file}.", next=LISTING)
    spec = importlib.util.spec_from_file_location(f"umecache_user_{file.stem}", file)
    if not attribute or spec is None or spec.loader is None:
        raise UsageError(f"{path!r} names a file but no entry.", next=f"--model {path}:ENTRY")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, attribute):
        entries = [name for name, value in vars(module).items() if isinstance(value, ModelEntry)]
        raise UsageError(
            f"{file} has no {attribute!r}.",
            why=f"Its entries: {', '.join(entries) or 'none'}.",
            next=f"--model {path}:{next(iter(entries), 'ENTRY')}",
        )
    return _checked(getattr(module, attribute), f"{path}:{attribute}")


def _checked(found: Any, ref: str) -> ModelEntry:
    if not isinstance(found, ModelEntry):
        raise UsageError(
            f"{ref!r} is no model.", why="It has to be an umecache.encoders.models.ModelEntry.", next=LISTING
        )
    return found


def _hub_entry(ref: str, rest: str) -> ModelEntry:
    repo, _, revision = rest.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise UsageError(f"{ref!r} names no hub repository.", why="It is written hf:ORG/NAME.", next=LISTING)
    if repo.startswith("timm/"):  # the hub's timm repositories hold timm checkpoints
        return _timm_entry(ref, f"hf-hub:{rest}")
    facts = {"dim": None, "tokens": "as its tokenizer makes them", "licence": "see its model card"}
    citation = f"https://huggingface.co/{repo}"
    return text_entry(ref, "", repo=repo, revision=revision or None, citation=citation, **facts)


def _timm_entry(ref: str, rest: str) -> ModelEntry:
    facts: dict[str, Any] = {"dim": None, "tokens": "as its forward_features gives", "licence": "see its model card"}
    for hub in ("hf-hub:", "hf_hub:"):
        if rest.startswith(hub):
            repo, _, revision = rest.removeprefix(hub).partition("@")
            facts |= {"repo": repo, "revision": revision or None, "citation": f"https://huggingface.co/{repo}"}
            return image_entry(ref, "", **facts)
    return image_entry(ref, rest, citation=f"timm, {rest}", **facts)


def _folder_entry(folder: Path) -> ModelEntry:
    """A checkpoint folder: what its config.json declares decides the library."""
    folder = folder.resolve()
    facts: dict[str, Any] = {"dim": None, "licence": "unknown", "citation": "unknown", "folder": folder}
    if (folder / "vocab.json").is_file() and (folder / "weights.safetensors").is_file():
        return ModelEntry(name=folder.name, modality="text", builder=LSTM, tokens=MODELS["lstm"].tokens, **facts)
    config = read_config(folder)
    refuse_joint(config, str(folder))
    if config.get("architecture"):
        return image_entry(folder.name, str(config["architecture"]), tokens="as its forward_features gives", **facts)
    if config.get("model_type") in AUDIO_TYPES:
        return audio_entry(folder.name, str(config["model_type"]), tokens="one for 20 ms", **facts)
    if config.get("model_type"):
        return text_entry(folder.name, str(config["model_type"]), tokens="as its tokenizer makes them", **facts)
    raise UsageError(
        f"{folder / 'config.json'} names no architecture.",
        why='It needs "model_type" (transformers) or "architecture" (timm).',
        next=LISTING,
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json.

    Raises:
        DataError: it is missing, malformed, or no object.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near: Iterable[Path] = sorted(folder.glob("*/config.json"))
        hint = f" There is one in {next(iter(near)).parent}." if near else ""
        raise DataError(
            f"{folder} holds no config.json, so it is no model folder.{hint}",
            why="transformers and timm both save one beside the weights.",
            next=LISTING,
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as JSON: {error}.", next=LISTING) from None
    if not isinstance(config, dict):
        raise DataError(f"{path} holds no JSON object.", next=LISTING)
    return config
