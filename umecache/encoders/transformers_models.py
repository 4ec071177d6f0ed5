"""Networks of transformers: where their parts come from, their configuration, their weights.

    source = find_source(entry, options)                     # a folder, the hub, or the registry alone
    config = configure("bert", source.config, {"num_hidden_layers": 6})
    network, attention = create("bert", config, source, options)

One path for hub, local folder and random weights: a configuration (the folder's config.json, else the registry's) and a
state dict read by `umecache.encoders.weights`. transformers never opens a checkpoint itself and never runs code that
came with one.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from umecache.encoders.base import EncoderOptions, Json, Modality
from umecache.encoders.hub import fetch
from umecache.encoders.models import AUDIO_TYPES, ModelEntry
from umecache.encoders.quiet import quiet_transformers
from umecache.encoders.registry import read_config, refuse_joint
from umecache.encoders.weights import check_fit, freeze, load_state, seeded
from umecache.errors import DataError, UsageError

# Configuration values that change no hidden state in eval mode: they must not change the recipe either.
_INERT = re.compile(
    r"dropout|pdrop|label|^decoder_|num_decoder_layers|^initializer|^_|^summary_|_n_top$|pooler|^output_|(?<!pad)_token_id$"
    r"|^(transformers_version|architectures|dtype|torch_dtype|use_cache|return_dict|problem_type|model_type"
    r"|task_specific_params|finetuning_task|auto_map|tokenizer_class|gradient_checkpointing|tie_word_embeddings)$"
)
# The same of networks that hear: how training masks and drops, what decoders and heads on top are.
_INERT_AUDIO = re.compile(
    r"layerdrop|^mask_|^ctc_|^num_ctc|contrastive|diversity|num_negatives|codevector|spec_augment|classifier_proj|tdnn|xvector"
    r"|weighted_layer_sum|suppress_tokens|max_target_positions|^vocab_size$|quantizer|^max_length$"
)
_RESERVED_ARGS = ("model_type", "architectures", "auto_map", "dtype", "torch_dtype", "quantization_config")
POOLER = "pooler"  # made by some base models, never part of the hidden states


@dataclass(frozen=True, slots=True)
class Source:
    """Where the parts of an encoder come from."""

    config: dict[str, Any]  # as in a config.json
    folder: Path | None  # its tokenizer
    weights: Path | None  # None: random
    commit: str | None = None

    def __str__(self) -> str:
        return str(self.weights or self.folder or "the registry")


def find_source(entry: ModelEntry, options: EncoderOptions) -> Source:
    """Locate configuration, weights and tokenizer; the only step that may use the network.

    Raises:
        UsageError: nothing at that path, another architecture than the entry's, or a kind of model that is not taken.
        UmecacheError: the hub can't be reached and its cache lacks the model.
    """
    registered = {"model_type": entry.architecture, **entry.config}
    if options.weights == "random" and entry.folder is None and entry.architecture:
        return Source(registered, None, None)
    commit = None
    if options.weights not in (None, "random"):
        path = Path(str(options.weights)).expanduser()
        if not path.exists():
            raise UsageError(f"There are no weights at {path}.", next="--weights PATH (a checkpoint folder or file)")
        folder, weights = (path, path) if path.is_dir() else (path.parent, path)
    elif entry.folder is not None:
        folder = weights = entry.folder
    else:
        assert entry.repo is not None  # every entry without a folder has a repository
        snapshot = fetch(entry.repo, entry.revision)
        folder, weights, commit = snapshot.folder, snapshot.folder, snapshot.commit
    # A bare weights file: the registry knows the shape of its models.
    bare = weights.is_file() and not (folder / "config.json").is_file() and bool(entry.architecture)
    config = registered if bare else {"model_type": entry.architecture, **read_config(folder)}
    found = config["model_type"]
    if entry.architecture and found != entry.architecture:
        raise UsageError(
            f"{folder} holds a {found!r} model; {entry.name!r} is {entry.architecture!r}.",
            next=f"umecache extract --model {folder}",
        )
    refuse_joint(config, entry.name)
    if config.get("quantization_config"):
        raise UsageError(f"{entry.name} holds quantised weights.", next="name the checkpoint it was quantised from")
    return Source(config, folder, None if options.weights == "random" else weights, commit)


def configure(name: str, raw: Mapping[str, Any], model_args: Mapping[str, Json]) -> Any:
    """The transformers configuration of a config.json (`raw`) and the user's changes to it.

    Raises:
        UsageError: an unknown architecture or argument, or a value that it refuses.
    """
    from transformers import CONFIG_MAPPING

    kind = raw.get("model_type")
    if kind not in CONFIG_MAPPING:
        raise UsageError(
            f"{name} is of type {kind!r}, which this version of transformers does not know.",
            why="umecache runs no code that comes with a model.",
            next="pip install --upgrade transformers",
        )
    config_class = CONFIG_MAPPING[kind]
    known = {*config_class().to_dict(), *config_class.attribute_map} - set(_RESERVED_ARGS)
    known = {key for key in known if not key.startswith("_")}
    for key in model_args:
        if key not in known:
            close = get_close_matches(key, known, n=3)
            raise UsageError(
                f"{name} has no model argument {key!r}.",
                why=f"Did you mean {' or '.join(close)}?" if close else "",
                next=f"https://huggingface.co/docs/transformers/model_doc/{kind} lists them",
            )
    try:
        with quiet_transformers():
            config = config_class.from_dict({**raw, **model_args})
    except Exception as error:  # each configuration class checks its values in its own way
        raise UsageError(
            f"The configuration of {name} is not accepted.",
            why=str(error).splitlines()[0],
            next="--model-arg KEY=VALUE",
        ) from None
    # Whatever precision the checkpoint was saved in; transformers 4 calls it torch_dtype.
    setattr(config, "dtype" if hasattr(config, "dtype") else "torch_dtype", torch.float32)
    return config


def read_extras(source: Source, name: str) -> dict[str, Any]:
    """What a JSON file beside the configuration says; empty where there is none.

    Raises:
        DataError: it is malformed.
    """
    path = None if source.folder is None else source.folder / name
    if path is None or not path.is_file():
        return {}
    try:
        extras = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as JSON: {error}.", next="umecache models") from None
    return extras if isinstance(extras, dict) else {}


def create(
    name: str,
    config: Any,
    source: Source,
    options: EncoderOptions,
    *,
    modality: Modality = "text",
    may_miss: tuple[str, ...] = (POOLER,),
) -> tuple[nn.Module, str]:
    """The base model, filled and frozen, and the attention implementation it runs.

    Args:
        modality: what it has to read.
        may_miss: parts of names of parameters that play no role in the hidden states.

    Raises:
        UsageError: it reads something else.
        DataError: the weights are damaged or don't fit the configuration.
    """
    model_class = _model_class(name, config, modality)
    # Never what happens to be installed (flash-attention, ...): the same choice on every machine.
    attention = "sdpa" if getattr(model_class, "_supports_sdpa", False) else "eager"
    arguments: dict[str, Any] = {"attn_implementation": attention}
    if "add_pooling_layer" in inspect.signature(model_class.__init__).parameters:
        arguments["add_pooling_layer"] = False
    with quiet_transformers(), seeded(options.seed):
        try:
            if source.weights is None:
                model = model_class._from_config(config, **arguments)
            else:
                model, report = model_class.from_pretrained(
                    None,
                    config=config,
                    state_dict=load_state(source.weights),
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # reported below, in words
                    **arguments,
                )
        except (ValueError, RuntimeError, TypeError, ZeroDivisionError) as error:
            raise DataError(
                f"{name} can't be built from {source}.", why=str(error).strip().splitlines()[0], next="umecache models"
            ) from None
    if source.weights is not None:
        _check(model, report, source, options, may_miss)
    if config.is_encoder_decoder:
        model = model.get_encoder() if not type(model).__name__.endswith("EncoderModel") else model
    return freeze(model), attention


def _model_class(name: str, config: Any, modality: Modality) -> Any:
    """The class of the base model: encoder only where an encoder-decoder has such a class."""
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING

    mapping = MODEL_MAPPING
    if config.is_encoder_decoder and type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING:
        mapping = MODEL_FOR_TEXT_ENCODING_MAPPING
    try:
        model_class = mapping[type(config)]
    except KeyError:
        raise UsageError(f"transformers has no base model for {config.model_type!r}.", next="umecache models") from None
    model_class = model_class[0] if isinstance(model_class, tuple | list) else model_class
    if modality == "audio":
        if config.model_type not in AUDIO_TYPES:
            raise UsageError(
                f"{name} is a {config.model_type!r} model, which is not known to read sounds.",
                why=f"Known are {', '.join(sorted(AUDIO_TYPES))}.",
                next="umecache models",
            )
        return model_class
    if model_class.main_input_name != "input_ids" or not hasattr(config, "vocab_size"):
        raise UsageError(
            f"{name} is a {config.model_type!r} model, which reads no text tokens.",
            why="Image encoders come from timm; encoders of sounds by their short names, or from a local folder.",
            next="umecache extract --model timm:NAME, or --model FOLDER",
        )
    return model_class


def _check(
    model: nn.Module, report: Mapping[str, Any], source: Source, options: EncoderOptions, may_miss: tuple[str, ...]
) -> None:
    for mismatch in sorted(report["mismatched_keys"], key=str):
        key, *shapes = mismatch if isinstance(mismatch, tuple) else (mismatch,)
        found = " but ".join(str(tuple(shape)) for shape in shapes)
        raise DataError(
            f"{source} does not fit its configuration: {key} is {found} in the model.",
            next="use the config.json that belongs to the weights",
        )
    check_fit(
        report["missing_keys"],
        report["unexpected_keys"],
        model,
        source=str(source),
        may_miss=may_miss,
        may_cut=bool(options.model_args),
    )


def position_limit(module: nn.Module) -> int | None:
    """Tokens that the position embeddings allow; None where positions are relative."""
    for name, child in module.named_modules():
        # RoBERTa counts positions from padding_idx + 1, so 514 rows serve 512 tokens.
        if name.endswith("position_embeddings") and isinstance(child, nn.Embedding) and child.padding_idx is not None:
            return child.num_embeddings - child.padding_idx - 1
    limit = getattr(module.config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def config_sha256(config: Any, *, audio: bool = False) -> str:
    """Hash of the configuration values that shape hidden states and differ from the architecture's defaults.

    Defaults and unknown keys are left out, so that a config.json written by another version of transformers, which
    spells out more or fewer of them, gives the same hash.
    """
    default = type(config)()
    defaults = default.to_dict()
    facts = {
        key: value
        for key, value in config.to_dict().items()
        if not _INERT.search(key)
        and not (audio and _INERT_AUDIO.search(key))
        and hasattr(default, key)
        and defaults.get(key) != value
    }
    facts["model_type"] = config.model_type
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
