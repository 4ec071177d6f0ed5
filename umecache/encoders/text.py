"""Text encoders of transformers: BERT, RoBERTa, DeBERTa-v3, T5's encoder, GPT-2, ... and any other that reads tokens.

    umecache extract --model bert                          # from the hub, or its cache
    umecache extract --model bert --weights ../my-bert     # a local folder: config.json, weights, tokenizer
    umecache extract --model bert --weights random         # the architecture at its real size, no files at all

Hidden states are those of the architecture's base model (`umecache.encoders.transformers_models`): after the final norm
for `layers="last"`, no pooler, no head; encoder-decoders give their encoder's.

Cost: bert-base, 20 tokens: about 3.4 GFLOP a question, 31 kB stored as float16.
Shapes: B batch, T tokens, D width.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from umecache.encoders.base import EncoderOptions, Json, LoadContext, Prepared
from umecache.encoders.models import ModelEntry
from umecache.encoders.pretrained_tokens import PretrainedTokenizer, has_tokenizer
from umecache.encoders.states import HiddenStates
from umecache.encoders.tokens import HashedWords, TextEncoder, token_facts
from umecache.encoders.transformers_models import (
    POOLER,
    Source,
    config_sha256,
    configure,
    create,
    find_source,
    position_limit,
)
from umecache.encoders.weights import weights_sha256
from umecache.errors import UsageError


class TransformersEncoder(HiddenStates, TextEncoder):
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
        self.read(layers)
        self.recipe, self.origin = {}, {}

    def smallest(self) -> dict[str, Tensor]:
        """One token."""
        one = torch.full((1, 1), min(5, self.vocab_size - 1))
        return {"input_ids": one, "attention_mask": torch.ones_like(one)}

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

    def forward(self, batch: Mapping[str, Tensor], *, all_states: bool) -> Any:
        """The network's output."""
        return self.module(**batch, output_hidden_states=all_states, return_dict=True, **self._switches)


def build_transformers(entry: ModelEntry, options: EncoderOptions, context: LoadContext) -> TransformersEncoder:
    """The encoder of a registry entry, a hub repository or a local folder.

    Raises:
        UsageError: the model is no text encoder, or an option does not fit it.
        DataError: files that are missing, damaged, or don't fit together.
    """
    source = find_source(entry, options)
    config = configure(entry.name, source.config, options.model_args)
    config_hash = config_sha256(config)  # now: some classes write into the configuration they are made from
    module, attention = create(entry.name, config, source, options)
    vocab_size = int(config.vocab_size)
    tokenizer, max_length = _tokenizer(entry.name, module, source, options)
    encoder = TransformersEncoder(entry.name, module, tokenizer, vocab_size=vocab_size, layers=options.layers)
    encoder.recipe = {
        "weights_sha256": weights_sha256(module, skip=(POOLER,)),
        "config_sha256": config_hash,
        "layers": encoder.layers,
        **token_facts(tokenizer, max_length),
        "token_types": _json(encoder.token_types),
    }
    encoder.origin = _origin(entry, source, options, attention, type(module).__name__, tokenizer)
    return encoder


def _tokenizer(
    name: str, module: nn.Module, source: Source, options: EncoderOptions
) -> tuple[PretrainedTokenizer | HashedWords, int | None]:
    """The tokenizer, and the length it cuts at: what is asked, else the model's own limit."""
    positions = position_limit(module)
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


def _origin(
    entry: ModelEntry,
    source: Source,
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
