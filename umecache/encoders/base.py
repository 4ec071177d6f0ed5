"""The contract of a frozen encoder: one modality in, token-level hidden states out.

    encoder = load_encoder("bert", EncoderOptions(weights="random"))
    prepared = encoder.prepare_many(["What colour is the cat?"])
    batch = encoder.collate(prepared, pad_to=max(encoder.length(p) for p in prepared))
    hidden_BTD = encoder.encode(batch)

Shapes: B batch, T tokens of one record (padded to the batch's longest), D width of the hidden states.

`prepare` is the CPU half (tokenize; decode, resize): it runs ahead of the device, in threads. `encode` is
the device half. Nothing here knows of stores, data sets or training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from umecache.errors import UsageError
from umecache.reporting import Reporter, Silent

Modality = Literal["text", "image", "audio"]
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Prepared = np.ndarray[Any, Any]
"""One input, ready for `collate`: token ids [T] int64 for text, pixels [3, S, S] uint8 or float32 for images,
samples [N] float32 for sounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGrid:
    """Where the tokens of an image record lie: `prefix` tokens (CLS, registers), then rows of `width` tokens."""

    height: int
    width: int
    prefix: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of one record."""
        return self.prefix + self.height * self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderOptions:
    """What a user can say about an encoder; every field has a flag of the same name."""

    weights: str | None = None  # a checkpoint folder or file; "random"; None: the registry's own source
    layers: str = "last"  # "last" is after the final norm; an index such as "-2" counts hidden states from the end
    model_args: Mapping[str, Json] = field(default_factory=dict)  # passed to the model's configuration
    image_size: int | None = None  # pixels; None: the model's own
    mean: tuple[float, ...] | None = None  # per channel, for pixels in 0..1; None: the model's own
    std: tuple[float, ...] | None = None
    crop: bool = False  # the model's own resize and crop instead of squashing the whole image to a square
    max_length: int | None = None  # tokens; None: the model's own limit
    seed: int = 0  # of weights="random"


class Encoder(ABC):
    """A frozen single-modality encoder.

    Attributes:
        name: the short name or reference it was loaded by.
        modality: what it reads.
        dim: D, the width of its hidden states.
        grid: where image tokens lie; None for text and sounds.
        fixed_length: T where every record has the same number of tokens, else None.
        module: the network, in eval mode, without gradients.
        recipe: the facts that decide values and so are hashed: `weights_sha256`, `config_sha256` or the like,
            `layers`, and the preprocessing (text: `tokenizer_sha256`, `max_length`, ...; image: `image_size`, `crop`,
            `interpolation`, `antialias`, `mean`, `std`, ...; audio: `sampling_rate`, `normalise`, `max_length`, ...).
            No names, paths, versions.
        origin: the facts that are only reported: `library`, `library_version`, `repo`, `revision`, `licence`,
            `attention`, `architecture`, ...
        files: small files that must travel in the store so that the encoder can be loaded again (name -> bytes);
            empty for encoders with public weights.
    """

    name: str
    modality: Modality
    dim: int
    grid: TokenGrid | None = None
    fixed_length: int | None = None
    module: nn.Module
    recipe: dict[str, Json]
    origin: dict[str, Json]
    files: Mapping[str, bytes] = {}

    @abstractmethod
    def prepare(self, item: str | bytes) -> Prepared:
        """Ready one input on the CPU: a question's text, or the bytes of an image or sound file. Safe in threads.

        Raises:
            UnreadableInput: the bytes are no image or sound, are cut short, are too large to decode, ...
        """

    def prepare_many(self, items: Sequence[str | bytes]) -> list[Prepared]:
        """`prepare` for each item; overridden where a batch is faster (tokenizers)."""
        return [self.prepare(item) for item in items]

    def length(self, prepared: Prepared) -> int:
        """Tokens T that `prepared` will give."""
        return self.fixed_length if self.fixed_length is not None else len(prepared)

    @abstractmethod
    def collate(self, prepared: Sequence[Prepared], pad_to: int | None = None) -> dict[str, Tensor]:
        """Stack inputs into CPU tensors, texts and sounds padded on the right to `pad_to` tokens."""

    @abstractmethod
    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Hidden states [B, T, D] of a collated batch that lies on the module's device.

        Row b holds its record's tokens first; what stands behind them (padding) is arbitrary. The caller chooses
        inference mode, autocast and device.
        """

    def layer_names(self) -> tuple[str, ...]:
        """Every value of `layers` that names another hidden state, from the last down."""
        return ("last",)

    def at(self, layers: str) -> Encoder:
        """This encoder read at another layer: a light copy that shares its weights.

        Its recipe, width and grid are those of an encoder loaded with `EncoderOptions(layers=layers)`.

        Raises:
            UsageError: no such layer.
        """
        if layers == self.recipe.get("layers", "last"):
            return self
        raise UsageError(
            f"{self.name} can't be read at layer {layers!r}.",
            why=f"It knows {', '.join(self.layer_names())}.",
            next="--layers last",
        )

    def encode_layers(self, batch: Mapping[str, Tensor], views: Sequence[Encoder]) -> list[Tensor]:
        """`encode` of each of these views (made by `at`, of one width and length), in one pass where the network can.

        Each gives the bits that its own `encode` gives.
        """
        return [view.encode(batch) for view in views]

    def to(self, device: torch.device | str) -> Encoder:
        """Move the network; returns self."""
        self.module.to(device)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainText:
    """The train split's questions, for the one encoder that stage one trains itself (`lstm`)."""

    questions: Sequence[str]
    answers: Sequence[str]  # the most common answer of each question, normalised


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadContext:
    """What a builder may need beyond its options."""

    cache_dir: Path | None = None  # where an encoder trained by stage one keeps its weights between runs
    train_text: TrainText | Callable[[], TrainText] | None = None  # a function, where reading it takes time
    reporter: Reporter = field(default_factory=Silent)  # training takes minutes: somebody should be told
