"""Text encoders of transformers: BERT, RoBERTa, DeBERTa-v3, T5's encoder, GPT-2, ... and any other that reads tokens.

    umecache extract --model bert                          # from the hub, or its cache
    umecache extract --model bert --weights ../my-bert     # a local folder: config.json, weights, tokenizer
    umecache extract --model bert --weights random         # the architecture at its real size, no files at all

One path for all three: a configuration (the folder's, else the registry's), a state dict read by
`umecache.encoders.weights`, a tokenizer. transformers never opens a checkpoint itself and never runs code that came
with one. Hidden states are those of the architecture's base model: after the final norm for `layers="last"`, no pooler,
no head; encoder-decoders give their encoder's.

Cost: bert-base, 20 tokens: about 3.4 GFLOP a question, 31 kB stored as float16.
Shapes: B batch, T tokens, D width.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from umecache.encoders.base import EncoderOptions, Json, LoadContext, Prepared
from umecache.encoders.hub import fetch
from umecache.encoders.pretrained_tokens import PretrainedTokenizer, has_tokenizer
from umecache.encoders.quiet import quiet_transformers
from umecache.encoders.registry import ModelEntry, read_config, refuse_joint
from umecache.encoders.tokens import HashedWords, TextEncoder, token_facts
from umecache.encoders.weights import check_fit, freeze, load_state, seeded, weights_sha256
from umecache.errors import DataError, UsageError

# Configuration values that change no hidden state in eval mode: they must not change the recipe either.
_INERT = re.compile(
    r"dropout|pdrop|label|^initializer|^_|^summary_|_n_top$|pooler|^output_|(?<!pad)_token_id$"
    r"|^(transformers_version|architectures|dtype|torch_dtype|use_cache|return_dict|problem_type|model_type"
    r"|task_specific_params|finetuning_task|auto_map|tokenizer_class|gradient_checkpointing|tie_word_embeddings)$"
)
_RESERVED_ARGS = ("model_type", "architectures", "auto_map", "dtype", "torch_dtype", "quantization_config")
_POOLER = "pooler"  # made by some base models, never part of the hidden states


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the parts of an encoder come from."""

    config: dict[str, Any]  # as in a config.json
    folder: Path | None  # its tokenizer
    weights: Path | None  # None: random
    commit: str | None = None

    def __str__(self) -> str:
        return str(self.weights or self.folder or "the registry")


class TransformersEncoder(TextEncoder):
    """A frozen base model of transformers."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        tokenizer: PretrainedTokenizer | HashedWords,
        *,
        vocab_size: int,
        layers: str,
    ) -> None:
        """Wrap a loaded network; `build_transformers` fills in recipe and origin.

        Raises:
            UsageError: `layers` names a layer that the network does not have.
        """
        self.name, self.module, self.tokenizer, self.vocab_size = name, module, tokenizer, vocab_size
        self.token_types = tokenizer.token_types if isinstance(tokenizer, PretrainedTokenizer) else None
        accepted = inspect.signature(module.forward).parameters
        if "token_type_ids" not in accepted:
            self.token_types = None
        # Neither key-value caches nor XLNet's memories are read again.
        self._switches = {name: False for name in ("use_cache", "use_mems") if name in accepted}
        self._state: int | None = None
        self.layers, self._state, self.dim = self._choose_layer(layers)
        self.recipe, self.origin = {}, {}

    def _choose_layer(self, layers: str) -> tuple[str, int | None, int]:
        """Ask the network itself, with one token: how many hidden states it has, how wide they are."""
        one = torch.full((1, 1), min(5, self.vocab_size - 1))
        with torch.inference_mode():
            output = self._forward({"input_ids": one, "attention_mask": torch.ones_like(one)}, all_states=True)
        last, states = output.last_hidden_state, output.hidden_states
        if layers == "last":
            return "last", None, last.shape[-1]
        if not re.fullmatch(r"-\d{1,4}", layers) or not 1 <= -int(layers) <= len(states):
            raise UsageError(
                f"layers={layers!r} names no hidden state of {self.name}.",
                why=f"It has {len(states)}: -1 is the last, -{len(states)} the embeddings.",
                next="--layers last",
            )
        state = states[int(layers)]
        if int(layers) == -1 and torch.equal(state, last):
            return "last", None, last.shape[-1]  # one name for one thing, so that equal stores have equal recipes
        return layers, int(layers), state.shape[-1]

    def collate(self, prepared: Sequence[Prepared], pad_to: int | None = None) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and, where the tokenizer has them, `token_type_ids`, each [B, T] int64."""
        batch = super().collate(prepared, pad_to)
        if self.token_types is not None:
            before, body, after = self.token_types
            types_BT = torch.zeros_like(batch["input_ids"])
            for row, ids in enumerate(prepared):
                types_BT[row, : len(ids)] = body
                types_BT[row, : len(before)] = torch.tensor(before, dtype=torch.int64)
                types_BT[row, len(ids) - len(after) : len(ids)] = torch.tensor(after, dtype=torch.int64)
            batch["token_type_ids"] = types_BT
        return batch

    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Hidden states [B, T, D]."""
        output = self._forward(batch, all_states=self._state is not None)
        hidden_BTD: Tensor = output.last_hidden_state if self._state is None else output.hidden_states[self._state]
        return hidden_BTD

    def _forward(self, batch: Mapping[str, Tensor], *, all_states: bool) -> Any:
        return self.module(**batch, output_hidden_states=all_states, return_dict=True, **self._switches)


def build_transformers(entry: ModelEntry, options: EncoderOptions, context: LoadContext) -> TransformersEncoder:
    """The encoder of a registry entry, a hub repository or a local folder.

    Raises:
        UsageError: the model is no text encoder, or an option does not fit it.
        DataError: files that are missing, damaged, or don't fit together.
    """
    source = _find(entry, options)
    refuse_joint(source.config, entry.name)
    if source.config.get("quantization_config"):
        raise UsageError(f"{entry.name} holds quantised weights.", next="name the checkpoint it was quantised from")
    config = _configure(entry.name, source.config, options.model_args)
    module, attention = _network(entry.name, config, source, options)
    vocab_size = int(config.vocab_size)
    tokenizer, max_length = _tokenizer(entry.name, module, source, options)
    encoder = TransformersEncoder(entry.name, module, tokenizer, vocab_size=vocab_size, layers=options.layers)
    encoder.recipe = {
        "weights_sha256": weights_sha256(module, skip=(_POOLER,)),
        "config_sha256": _config_sha256(config),
        "layers": encoder.layers,
        **token_facts(tokenizer, max_length),
        "token_types": _json(encoder.token_types),
    }
    encoder.origin = _origin(entry, source, options, attention, type(module).__name__, tokenizer)
    return encoder


def _find(entry: ModelEntry, options: EncoderOptions) -> _Source:
    """Locate configuration, weights and tokenizer; the only step that may use the network."""
    registered = {"model_type": entry.architecture, **entry.config}
    if options.weights == "random" and entry.folder is None and entry.architecture:
        return _Source(registered, None, None)
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
    return _Source(config, folder, None if options.weights == "random" else weights, commit)


def _configure(name: str, raw: Mapping[str, Any], model_args: Mapping[str, Json]) -> Any:
    """The transformers configuration of a config.json and the user's changes to it."""
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
    config.dtype = torch.float32  # whatever precision the checkpoint was saved in
    return config


def _network(name: str, config: Any, source: _Source, options: EncoderOptions) -> tuple[nn.Module, str]:
    """The base model, filled and frozen, and the attention implementation it runs."""
    model_class = _model_class(name, config)
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
        _check(model, report, source, options)
    if config.is_encoder_decoder:
        model = model.get_encoder() if not type(model).__name__.endswith("EncoderModel") else model
    return freeze(model), attention


def _model_class(name: str, config: Any) -> Any:
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
    if model_class.main_input_name != "input_ids" or not hasattr(config, "vocab_size"):
        raise UsageError(
            f"{name} is a {config.model_type!r} model, which reads no text tokens.",
            why="Image encoders come from timm.",
            next="umecache extract --model timm:NAME",
        )
    return model_class


def _check(model: nn.Module, report: Mapping[str, Any], source: _Source, options: EncoderOptions) -> None:
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
        may_miss=(_POOLER,),
        may_cut=bool(options.model_args),
    )


def _tokenizer(
    name: str, module: nn.Module, source: _Source, options: EncoderOptions
) -> tuple[PretrainedTokenizer | HashedWords, int | None]:
    """The tokenizer, and the length it cuts at: what is asked, else the model's own limit."""
    positions = _position_limit(module)
    if options.max_length is not None and positions is not None and options.max_length > positions:
        raise UsageError(
            f"{name} has positions for {positions} tokens, not {options.max_length}.",
            next=f"--max-length {positions} or less",
        )
    config: Any = module.config
    if source.folder is None or (source.weights is None and not has_tokenizer(source.folder)):
        length = options.max_length or positions
        pad_id = max(0, config.pad_token_id or 0)  # LLaMA's configurations say -1 for none
        return HashedWords(int(config.vocab_size), pad_id=pad_id, max_length=length), length
    tokenizer = PretrainedTokenizer(source.folder)
    limits = [limit for limit in (tokenizer.limit, positions) if limit is not None]
    length = options.max_length or min(limits, default=None)
    tokenizer.cut_at(length)
    if tokenizer.pad_id >= int(config.vocab_size):
        tokenizer.pad_id = 0  # a padding token added later has no embedding; padded positions are masked anyway
    return tokenizer, length


def _position_limit(module: nn.Module) -> int | None:
    """Tokens that the position embeddings allow; None where positions are relative."""
    for name, child in module.named_modules():
        # RoBERTa counts positions from padding_idx + 1, so 514 rows serve 512 tokens.
        if name.endswith("position_embeddings") and isinstance(child, nn.Embedding) and child.padding_idx is not None:
            return child.num_embeddings - child.padding_idx - 1
    limit = getattr(module.config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def _config_sha256(config: Any) -> str:
    """Hash of the configuration values that shape hidden states and differ from the architecture's defaults.

    Defaults and unknown keys are left out, so that a config.json written by another version of transformers, which
    spells out more or fewer of them, gives the same hash.
    """
    default = type(config)()
    defaults = default.to_dict()
    facts = {
        key: value
        for key, value in config.to_dict().items()
        if not _INERT.search(key) and hasattr(default, key) and defaults.get(key) != value
    }
    facts["model_type"] = config.model_type
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _origin(
    entry: ModelEntry,
    source: _Source,
    options: EncoderOptions,
    attention: str,
    architecture: str,
    tokenizer: PretrainedTokenizer | HashedWords,
) -> dict[str, Json]:
    import transformers

    hub = source.commit is not None
    return {
        "library": "transformers",
        "library_version": transformers.__version__,
        "architecture": architecture,
        "attention": attention,
        "repo": entry.repo if hub else None,
        "revision": source.commit,
        "weights": "random" if source.weights is None else str(source.weights),
        "seed": options.seed if source.weights is None else None,
        "tokenizer": "hashed words" if isinstance(tokenizer, HashedWords) else type(tokenizer._tokenizer).__name__,
        "licence": entry.licence,
        "citation": entry.citation,
    }


def _json(value: Any) -> Json:
    plain: Json = json.loads(json.dumps(value))
    return plain
