"""How a name becomes an encoder; the table of names is `umecache.encoders.models`.

    load_encoder("bert")                            # a short name
    load_encoder("hf:answerdotai/ModernBERT-base")  # any text model of the hub that transformers knows
    load_encoder("timm:convnext_tiny.fb_in1k")      # any image model of timm
    load_encoder("../checkpoints/my-bert")          # a local folder with a config.json

Nothing here imports torch until an encoder is loaded.
"""

from __future__ import annotations

import json
import os
import pkgutil
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from umecache.encoders.models import LSTM, MODELS, ModelEntry, image_entry, text_entry
from umecache.errors import DataError, UnknownName, UsageError

if TYPE_CHECKING:
    from umecache.encoders.base import Encoder, EncoderOptions, LoadContext

__all__ = ["MODELS", "ModelEntry", "load_encoder", "read_config", "refuse_joint", "resolve"]

_JOINT_TYPES = {"vilt", "visual_bert", "lxmert", "bridgetower", "chinese_clip", "layoutlmv2", "layoutlmv3", "uniter"}


def resolve(ref: str, modality: str | None = None) -> ModelEntry:
    """The entry that `ref` names: a short name, `hf:ORG/NAME[@REVISION]`, `timm:NAME` or a local folder.

    Args:
        modality: refuse an encoder of another one.

    Raises:
        UnknownName: no such short name; says the nearest.
        UsageError: no such folder, or a model that isn't an encoder of one modality.
    """
    entry = _resolve(ref)
    if modality is not None and entry.modality != modality:
        fitting = ", ".join(name for name, known in MODELS.items() if known.modality == modality)
        raise UsageError(
            f"{ref!r} is an encoder of {_plural(entry.modality)}, not of {_plural(modality)}.",
            why=f"Encoders of {_plural(modality)}: {fitting}.",
            next="umecache models",
        )
    return entry


def load_encoder(ref: str, options: EncoderOptions | None = None, context: LoadContext | None = None) -> Encoder:
    """Load the encoder that `ref` names, frozen, on the CPU.

    Raises:
        UmecacheError: an unknown name, missing files, weights that don't fit, options that can't be.
    """
    from umecache.encoders.base import EncoderOptions, LoadContext

    entry = resolve(ref)
    encoder: Encoder = pkgutil.resolve_name(entry.builder)(entry, options or EncoderOptions(), context or LoadContext())
    return encoder


def refuse_joint(config: Mapping[str, Any], source: str) -> None:
    """Raise UsageError if a model's configuration is of one that reads text and images together."""
    kind = str(config.get("model_type") or config.get("architecture") or "model")
    joint = "vision_config" in config and "text_config" in config
    if joint or "model_cfg" in config or kind in _JOINT_TYPES:  # model_cfg: OpenCLIP
        raise UsageError(
            f"{source} is a joint text-and-image model ({kind}).",
            why="umecache caches encoders of one modality each and learns their fusion.",
            next="umecache models",
        )


def _plural(modality: str) -> str:
    return {"text": "texts", "image": "images"}.get(modality, modality)


def _resolve(ref: str) -> ModelEntry:
    if ref in MODELS:
        return MODELS[ref]
    prefix, _, rest = ref.partition(":")
    if prefix == "hf" and rest:
        return _hub_entry(ref, rest)
    if prefix == "timm" and rest:
        return _timm_entry(ref, rest)
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
        raise UsageError(f"There is no folder {ref}.", next="umecache models")
    if "/" in ref:
        raise UnknownName("model", ref, [f"hf:{ref}", f"timm:hf-hub:{ref}"], listing="umecache models")
    raise UnknownName("model", ref, MODELS, listing="umecache models")


def _hub_entry(ref: str, rest: str) -> ModelEntry:
    repo, _, revision = rest.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise UsageError(f"{ref!r} names no hub repository.", why="It is written hf:ORG/NAME.", next="umecache models")
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
    if config.get("model_type"):
        return text_entry(folder.name, str(config["model_type"]), tokens="as its tokenizer makes them", **facts)
    raise UsageError(
        f"{folder / 'config.json'} names no architecture.",
        why='It needs "model_type" (transformers) or "architecture" (timm).',
        next="umecache models",
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
            next="umecache models",
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as JSON: {error}.", next="umecache models") from None
    if not isinstance(config, dict):
        raise DataError(f"{path} holds no JSON object.", next="umecache models")
    return config
