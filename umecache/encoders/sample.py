"""The two small encoders of the built-in sample: `sample-text` and `sample-image`.

    encoder = load_encoder("sample-image")          # 16 tokens x 64: a 4 x 4 grid
    encoder = load_encoder("sample-text")           # one token of width 64 per word

Both are transformers of two layers, trained by `scripts/train_sample_encoders.py`, each on its own modality only: the
text encoder predicts masked words of questions without ever seeing a picture or an answer; the image encoder tells,
for each cell of the picture, what is drawn there, without ever seeing a question. Their weights travel in the package
(`sample_weights/`, with a README), so that `umecache demo` needs no network.

Shapes: B batch, T tokens, D width, S pixels of a side.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from umecache.encoders.base import Encoder, EncoderOptions, Json, LoadContext, Prepared, TokenGrid
from umecache.encoders.models import ModelEntry
from umecache.encoders.pixels import Preprocessing
from umecache.encoders.tokens import TextEncoder, WordVocab, token_facts
from umecache.encoders.weights import freeze, load_into, load_state, seeded, weights_sha256
from umecache.errors import DataError, UsageError

WEIGHTS = Path(__file__).parent / "sample_weights"
WIDTH = 64
LAYERS = 2
LAYER_NAMES = ("last", *(f"-{i}" for i in range(2, LAYERS + 2)))
HEADS = 4
MAX_WORDS = 32
IMAGE_SIZE = 64  # pixels; the cells are 16 pixels wide
CELLS = 4  # per side
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)  # of pixels in 0..1
MASKED = "<masked>"  # the first word of the table; no text holds it


class Block(nn.Module):
    """A pre-norm transformer layer: x + attention(LN x), then x + MLP(LN x)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Padded keys (mask False) are not attended to; padded rows hold arbitrary numbers."""
        B, T, D = x_BTD.shape
        q, k, v = self.qkv(self.norm1(x_BTD)).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        allowed = None if mask_BT is None else mask_BT[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        x_BTD = x_BTD + self.out(mixed.transpose(1, 2).reshape(B, T, D))
        mlp: Tensor = self.mlp(self.norm2(x_BTD))
        return x_BTD + mlp


class TextNet(nn.Module):
    """Word embeddings, learned positions, two layers, a final norm."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.word = nn.Embedding(words, WIDTH, padding_idx=WordVocab.PAD)
        self.position = nn.Parameter(0.02 * torch.randn(MAX_WORDS, WIDTH))
        self.blocks = nn.ModuleList(Block(WIDTH, HEADS) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, ids_BT: Tensor) -> list[Tensor]:
        """Hidden states [B, T, D]: the embeddings, then each layer's output; the last one after the final norm."""
        mask_BT = ids_BT != WordVocab.PAD
        x_BTD = self.word(ids_BT) + self.position[: ids_BT.shape[1]]
        hidden = [x_BTD]
        for block in self.blocks:
            x_BTD = block(x_BTD, mask_BT)
            hidden.append(x_BTD)
        return [*hidden[:-1], self.norm(x_BTD)]


class ImageNet(nn.Module):
    """Four strided convolutions to 4 x 4 cells, learned positions, two layers, a final norm."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 32, 48, WIDTH)
        layers: list[nn.Module] = []
        for below, above in itertools.pairwise(widths):
            layers += [nn.Conv2d(below, above, 5 if below == 3 else 3, stride=2, padding=2 if below == 3 else 1)]
            layers += [nn.GroupNorm(8, above), nn.GELU()]
        self.stem = nn.Sequential(*layers)
        self.position = nn.Parameter(0.02 * torch.randn(CELLS * CELLS, WIDTH))
        self.blocks = nn.ModuleList(Block(WIDTH, HEADS) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, pixels_B3SS: Tensor) -> list[Tensor]:
        """Hidden states [B, H*W, D], row by row of cells: the stem's, then each layer's; the last after the norm."""
        x_BTD = self.stem(pixels_B3SS).flatten(2).transpose(1, 2) + self.position
        hidden = [x_BTD]
        for block in self.blocks:
            x_BTD = block(x_BTD)
            hidden.append(x_BTD)
        return [*hidden[:-1], self.norm(x_BTD)]


class SampleWords(WordVocab):
    """The text encoder's tokenizer: one token per known word; punctuation says nothing here and is left out."""

    def __init__(self, words: Sequence[str], *, max_length: int | None = None) -> None:
        super().__init__((MASKED, *words), max_length=max_length)
        facts = json.dumps({"kind": "words without punctuation", "words": self.words})
        self.sha256 = hashlib.sha256(facts.encode()).hexdigest()

    def pieces(self, text: str) -> list[str]:
        """The words, punctuation left out."""
        return super().pieces(re.sub(r"[^\w\s]", " ", text))


class SampleText(TextEncoder):
    """`sample-text`: hidden states of the words of a question."""

    def __init__(self, entry: ModelEntry, net: TextNet, words: SampleWords, layers: str) -> None:
        self.name, self.dim, self.module = entry.name, WIDTH, freeze(net)
        self.tokenizer, self.vocab_size = words, len(words)
        self._state, said = _state(layers, entry.name)
        self.recipe = {
            "weights_sha256": weights_sha256(net),
            "layers": said,
            **token_facts(words, words.max_length),
        }
        self.origin = _origin(entry, net)

    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Hidden states [B, T, D]."""
        hidden: list[Tensor] = self.module(batch["input_ids"])
        return hidden[self._state]

    def layer_names(self) -> tuple[str, ...]:
        """The last, down to the input of the first layer."""
        return LAYER_NAMES

    def at(self, layers: str) -> SampleText:
        """The same network read at another layer."""
        view = copy.copy(self)
        view._state, said = _state(layers, self.name)
        view.recipe = {**self.recipe, "layers": said}
        return view

    def encode_layers(self, batch: Mapping[str, Tensor], views: Sequence[Encoder]) -> list[Tensor]:
        """Hidden states [B, T, D] of each view, in one pass."""
        hidden: list[Tensor] = self.module(batch["input_ids"])
        return [hidden[view._state] for view in views if isinstance(view, SampleText)]


class SampleImage(Encoder):
    """`sample-image`: hidden states of the 4 x 4 cells of a picture."""

    modality = "image"

    def __init__(self, entry: ModelEntry, net: ImageNet, options: EncoderOptions) -> None:
        if options.image_size not in (None, IMAGE_SIZE):
            raise UsageError(
                f"{entry.name} takes {IMAGE_SIZE} x {IMAGE_SIZE} pixels, not {options.image_size}.",
                next=f"--image-size {IMAGE_SIZE}",
            )
        self.name, self.dim, self.module = entry.name, WIDTH, freeze(net)
        self.grid = TokenGrid(height=CELLS, width=CELLS)
        self.fixed_length = self.grid.tokens
        mean, std = options.mean or MEAN, options.std or STD
        self.look = Preprocessing(image_size=IMAGE_SIZE, mean=mean, std=std, crop=options.crop)
        self._state, said = _state(options.layers, entry.name)
        self.recipe = {
            "weights_sha256": weights_sha256(net),
            "layers": said,
            **self.look.recipe(),
        }
        self.origin = _origin(entry, net)

    def prepare(self, item: str | bytes) -> Prepared:
        """Pixels [3, S, S] uint8 of an image file's bytes."""
        if isinstance(item, str):
            raise TypeError("an image encoder reads the bytes of an image file")
        return self.look.pixels(item)

    def collate(self, prepared: Sequence[Prepared], pad_to: int | None = None) -> dict[str, Tensor]:
        """Pixels [B, 3, S, S] uint8."""
        return {"pixels": torch.from_numpy(np.stack(prepared))}

    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Hidden states [B, T, D]."""
        hidden: list[Tensor] = self.module(normalise(batch["pixels"], self.look.mean, self.look.std))
        return hidden[self._state]

    def layer_names(self) -> tuple[str, ...]:
        """The last, down to the input of the first layer."""
        return LAYER_NAMES

    def at(self, layers: str) -> SampleImage:
        """The same network read at another layer."""
        view = copy.copy(self)
        view._state, said = _state(layers, self.name)
        view.recipe = {**self.recipe, "layers": said}
        return view

    def encode_layers(self, batch: Mapping[str, Tensor], views: Sequence[Encoder]) -> list[Tensor]:
        """Hidden states [B, T, D] of each view, in one pass."""
        hidden: list[Tensor] = self.module(normalise(batch["pixels"], self.look.mean, self.look.std))
        return [hidden[view._state] for view in views if isinstance(view, SampleImage)]


def normalise(pixels: Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """uint8 pixels [..., 3, S, S] as the image encoder reads them, float32."""
    centre, scale = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (mean, std))
    return (pixels.float() / 255 - centre) / scale


def build_text(entry: ModelEntry, options: EncoderOptions, context: LoadContext) -> SampleText:
    """The registry's builder of `sample-text`.

    Raises:
        UsageError: options that it doesn't have.
        DataError: `--weights` that are missing, damaged or of another network.
    """
    _check(entry, options)
    path = _weights_path(entry, options)
    limit = MAX_WORDS if options.max_length is None else options.max_length
    if not 1 <= limit <= MAX_WORDS:
        raise UsageError(f"{entry.name} reads 1 to {MAX_WORDS} words, not {limit}.", next=f"--max-length {MAX_WORDS}")
    words = SampleWords(_words(path), max_length=limit)
    with seeded(options.seed):
        net = TextNet(len(words))
    if options.weights != "random":
        load_into(net, load_state(path), source=str(path))
    return SampleText(entry, net, words, options.layers)


def build_image(entry: ModelEntry, options: EncoderOptions, context: LoadContext) -> SampleImage:
    """The registry's builder of `sample-image`; raises as `build_text`."""
    _check(entry, options)
    path = _weights_path(entry, options)
    with seeded(options.seed):
        net = ImageNet()
    if options.weights != "random":
        load_into(net, load_state(path), source=str(path))
    return SampleImage(entry, net, options)


def _weights_path(entry: ModelEntry, options: EncoderOptions) -> Path:
    """The file asked for; the package's own where none is, and for the words of random weights."""
    if options.weights in (None, "random"):
        return WEIGHTS / f"{entry.name.replace('-', '_')}.safetensors"
    return Path(str(options.weights)).expanduser()


def _words(path: Path) -> list[str]:
    """The words that a text encoder's file was trained with; its metadata say them."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataError(f"There are no weights at {path}.", next="--weights FILE.safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("umecache", "{}"))
            words: list[str] = [str(word) for word in facts.get("words", ())]
    except (SafetensorError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path} is damaged or no safetensors file.", why=str(error).splitlines()[0]) from None
    if not words:
        raise DataError(
            f"{path} does not say its words.",
            why="Its safetensors metadata lack them.",
            next="python scripts/train_sample_encoders.py --only text --out FOLDER",
        )
    return words


def _state(layers: str, name: str) -> tuple[int, str]:
    """Which of the hidden states `layers` means, counted from the end, and how the recipe calls it."""
    if layers == "last" or (re.fullmatch(r"-[1-9]\d{0,3}", layers) and int(layers) >= -(LAYERS + 1)):
        place = -1 if layers == "last" else int(layers)
        return place, "last" if place == -1 else layers
    raise UsageError(
        f"layers={layers!r} names no hidden state of {name}.",
        why=f"It has {LAYERS + 1}: -1 is the last, -{LAYERS + 1} the input of the first layer.",
        next="--layers last",
    )


def _check(entry: ModelEntry, options: EncoderOptions) -> None:
    if options.model_args:
        said = ", ".join(options.model_args)
        raise UsageError(f"{entry.name} has no --model-arg {said}.", next=f"umecache extract --model {entry.name}")
    _state(options.layers, entry.name)


def _origin(entry: ModelEntry, net: nn.Module) -> dict[str, Json]:
    return {
        "library": "torch",
        "library_version": torch.__version__,
        "licence": entry.licence,
        "citation": entry.citation,
        "architecture": type(net).__name__,
        "attention": "sdpa",
    }
