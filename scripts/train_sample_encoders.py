"""Train the two small encoders of the built-in sample, each on its own modality only, and write their weights.

    python scripts/train_sample_encoders.py                      # both, about 12 minutes on one core
    python scripts/train_sample_encoders.py --only text --out /tmp/w    # one of them, elsewhere

Text: masked-word prediction (Devlin et al., NAACL 2019, arXiv:1810.04805: 15 % of the words, 80/10/10) on the words of
questions. No pictures are drawn, no answers are computed.

Image: for each cell of the 6 x 6 grid, tell which shape has its centre there (kind with colour, or none), how large it
is, where in the cell its centre lies, and which row and column the cell is. No questions are asked.

The pictures and questions come from other seeds than those of any sample that `write_sample` is asked for with a seed
below 1,000,000. One thread and a fixed seed give the same weights on the same CPU and versions; the loss and the
accuracies on fresh material are printed, and travel in the files' metadata.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from umecache.data.scene_questions import FAMILIES, SIDES, Noun, all_queries
from umecache.data.scenes import COLORS, KINDS, SIZE, Scene, draw, make_scene
from umecache.encoders import sample as encoders
from umecache.encoders.tokens import split_words

SEED = 1_000_003
OUT = encoders.WEIGHTS
PAD, MASKED = encoders.SampleWords.PAD, encoders.SampleWords.FIRST  # word ids
CELL = SIZE / encoders.CELLS  # pixels
NOUNS = tuple(Noun(kind=k) for k in KINDS) + tuple(Noun(color=c) for c in COLORS)
NOUNS += tuple(Noun(k, c) for k in KINDS for c in COLORS)  # "circle", "red shape", "red circle", ...
ALL_NOUNS = (Noun(), *NOUNS)
PLACES = ("", *SIDES)
PARTS = (len(FAMILIES), len(ALL_NOUNS), len(ALL_NOUNS), len(PLACES))  # of what a question asks: classes each
MAX_SHAPES = 4  # in a scene
IGNORED = -100  # cross_entropy's own mark of a target that does not count

# --- text: B batch, T words -------------------------------------------------------------------------------------------


def questions(count: int, seed: int) -> tuple[list[str], Tensor]:
    """Questions drawn evenly over families, then over what is asked, then over phrasings; and what they ask, in
    numbers [count, len(PARTS)].
    """
    rng = Random(f"text {seed}")
    queries = {family: all_queries(family) for family in FAMILIES}
    drawn = [rng.choice(queries[rng.choice(FAMILIES)]) for _ in range(count)]
    asked = [
        (FAMILIES.index(q.family), ALL_NOUNS.index(q.noun), ALL_NOUNS.index(q.other), PLACES.index(q.side))
        for q in drawn
    ]
    return [rng.choice(query.phrasings()) for query in drawn], torch.tensor(asked)


def word_list() -> list[str]:
    """Every word of every question."""
    texts = [text for family in FAMILIES for query in all_queries(family) for text in query.phrasings()]
    return sorted({word for text in texts for word in split_words(re.sub(r"[^\w\s]", " ", text))})


def masked(ids_BT: Tensor, words: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """BERT's corruption: inputs [B, T], and targets [B, T] that are IGNORED where nothing is to be predicted."""
    chance = torch.rand(ids_BT.shape, generator=rng)
    chosen = (chance < 0.15) & (ids_BT != PAD)
    kind = torch.rand(ids_BT.shape, generator=rng)
    random_words = torch.randint(3, words, ids_BT.shape, generator=rng)
    inputs = torch.where(chosen & (kind < 0.8), MASKED, ids_BT)
    inputs = torch.where(chosen & (kind >= 0.9), random_words, inputs)
    return inputs, torch.where(chosen, ids_BT, IGNORED)


def train_text(steps: int, batch: int) -> tuple[nn.Module, dict[str, Any]]:
    """The text encoder, and what to write into its file's metadata."""
    torch.manual_seed(SEED)
    rng = torch.Generator().manual_seed(SEED)
    words = word_list()
    table = encoders.SampleWords(words)
    net = encoders.TextNet(len(table))
    word_head = nn.Linear(encoders.WIDTH, len(table))
    asked_head = nn.Linear(encoders.WIDTH, sum(PARTS))
    material, fresh = (
        (torch.nn.utils.rnn.pad_sequence([torch.from_numpy(ids) for ids in table(texts)], batch_first=True), asked)
        for texts, asked in (questions(20_000, SEED), questions(2_000, SEED + 1))
    )

    def losses(ids_BT: Tensor, asked_BP: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The losses of both tasks, and the shares of right answers."""
        inputs, targets = masked(ids_BT, len(table), rng)
        logits = word_head(net(inputs)[-1])
        words_right = (logits.argmax(-1) == targets)[targets != IGNORED].float().mean()
        real_BT1 = (ids_BT != PAD)[..., None]
        mean_BD = (net(ids_BT)[-1] * real_BT1).sum(1) / real_BT1.sum(1)
        told = asked_head(mean_BD).split(list(PARTS), dim=-1)
        asked_right = (
            torch.stack([t.argmax(-1) == a for t, a in zip(told, asked_BP.T, strict=True)]).all(0).float().mean()
        )
        asked_loss = sum(F.cross_entropy(t, a) for t, a in zip(told, asked_BP.T, strict=True))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()), asked_loss, words_right, asked_right

    for _ in optimise([net, word_head, asked_head], steps, lr=1e-3, name="text"):
        chosen = torch.randint(len(material[0]), (batch,), generator=rng)
        word_loss, asked_loss, _, _ = losses(material[0][chosen], material[1][chosen])
        (word_loss + asked_loss).backward()
    with torch.no_grad():
        _, _, words_right, asked_right = losses(*fresh)
    facts = {
        "task": "masked words, and what is asked",
        "masked_words_right": f"{100 * words_right:.1f} %",
        "all_of_what_is_asked_right": f"{100 * asked_right:.1f} %",
    }
    return net.eval(), {"words": words, **facts}


# --- image: B batch, N cells ------------------------------------------------------------------------------------------


class Pictures:
    """Drawn pictures [n, 3, S, S] uint8 and the facts that the image encoder learns to tell."""

    def __init__(self, count: int, seed: int) -> None:
        cells, nouns = encoders.CELLS**2, len(NOUNS)
        scenes = [make_scene(image_id, seed) for image_id in range(count)]
        side = (encoders.IMAGE_SIZE,) * 2
        drawn = (draw(scene).resize(side, Image.Resampling.BICUBIC) for scene in scenes)  # as extraction reads them
        self.pixels = torch.from_numpy(np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in drawn]))
        self.what = torch.zeros(count, cells, dtype=torch.long)  # 0: no centre here, else 1 + kind and colour
        self.offset = torch.zeros(count, cells, 2)  # of the centre from the cell's middle, in cells: -0.5 .. 0.5
        self.count = torch.zeros(count, nouns, dtype=torch.long)  # shapes of each noun in the whole picture
        self.place = torch.full((count, nouns, 2), math.nan)  # of the noun's only shape: x, y in -1 .. 1
        for row, scene in enumerate(scenes):
            self._describe(row, scene)

    def _describe(self, row: int, scene: Scene) -> None:
        for shape in scene.shapes:
            x, y = shape.x / CELL, shape.y / CELL
            cell = math.floor(y) * encoders.CELLS + math.floor(x)
            self.what[row, cell] = 1 + KINDS.index(shape.kind) * len(COLORS) + list(COLORS).index(shape.color)
            self.offset[row, cell] = torch.tensor([x % 1 - 0.5, y % 1 - 0.5])
        for column, noun in enumerate(NOUNS):
            self.count[row, column] = len(noun.matches(scene))
            only = noun.one(scene)
            if only is not None:
                self.place[row, column] = torch.tensor([only.x, only.y]) / (SIZE / 2) - 1


def train_image(steps: int, batch: int, pictures: int) -> tuple[nn.Module, dict[str, Any]]:
    """The image encoder, and what to write into its file's metadata."""
    torch.manual_seed(SEED)
    rng = torch.Generator().manual_seed(SEED)
    net = encoders.ImageNet()
    whats, nouns = 1 + len(KINDS) * len(COLORS), len(NOUNS)
    cell_head = nn.Linear(encoders.WIDTH, whats + 2)
    picture_head = nn.Linear(encoders.WIDTH, nouns * (MAX_SHAPES + 1 + 2))
    weight = torch.ones(whats)
    weight[0] = 0.3  # most cells are empty
    seen, fresh = Pictures(pictures, SEED), Pictures(max(20, pictures // 16), SEED + 1)

    def told(material: Pictures, chosen: Tensor) -> dict[str, Tensor]:
        hidden_BND = net(encoders.normalise(material.pixels[chosen]))[-1]
        what, offset = cell_head(hidden_BND).split([whats, 2], dim=-1)
        count, place = picture_head(hidden_BND.mean(1)).split([nouns * (MAX_SHAPES + 1), nouns * 2], dim=-1)
        return {
            "what": what,
            "offset": offset,
            "count": count.unflatten(1, (nouns, -1)),
            "place": place.unflatten(1, (nouns, 2)),
        }

    for _ in optimise([net, cell_head, picture_head], steps, lr=2e-3, name="image"):
        chosen = torch.randint(len(seen.pixels), (batch,), generator=rng)
        out, what_BN, place_BM2 = told(seen, chosen), seen.what[chosen], seen.place[chosen]
        loss = F.cross_entropy(out["what"].flatten(0, 1), what_BN.flatten(), weight)
        loss = loss + F.mse_loss(out["offset"][what_BN > 0], seen.offset[chosen][what_BN > 0])
        loss = loss + 2 * F.cross_entropy(out["count"].flatten(0, 1), seen.count[chosen].flatten())
        known = ~place_BM2.isnan()
        loss = loss + 2 * F.mse_loss(out["place"][known], place_BM2[known])
        loss.backward()
    with torch.no_grad():
        out = told(fresh, torch.arange(len(fresh.pixels)))
    right = out["what"].argmax(-1) == fresh.what
    known = ~fresh.place.isnan()
    facts = {
        "task": "what is drawn in each cell, and how many of what and where in the picture",
        "shapes_right": f"{100 * right[fresh.what > 0].float().mean():.1f} %",
        "empty_cells_right": f"{100 * right[fresh.what == 0].float().mean():.1f} %",
        "counts_right": f"{100 * (out['count'].argmax(-1) == fresh.count).float().mean():.1f} %",
        "places_off_by": f"{(out['place'] - fresh.place)[known].abs().mean() * SIZE / 2:.1f} of {SIZE} pixels",
    }
    return net.eval(), facts


# --- both -------------------------------------------------------------------------------------------------------------


def optimise(modules: list[nn.Module], steps: int, *, lr: float, name: str) -> Iterator[int]:
    """AdamW with a short warm-up and a cosine to zero; the caller fills the gradients of each step."""
    parameters = [p for module in modules for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
    started = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        yield step
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if (step + 1) % 500 == 0:
            print(f"{name}: step {step + 1}/{steps}, {time.monotonic() - started:.0f} s", flush=True)


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["text", "image"], help="one of the two")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the safetensors files")
    parser.add_argument(
        "--steps", type=int, default=6000, help="optimisation steps of the image encoder; text: a third"
    )
    parser.add_argument("--pictures", type=int, default=16_000, help="pictures the image encoder learns from")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # sums in a fixed order: the same weights every time
    args.out.mkdir(parents=True, exist_ok=True)
    for which in [args.only] if args.only else ["text", "image"]:
        if which == "text":
            net, facts = train_text(args.steps // 3, batch=128)
        else:
            net, facts = train_image(args.steps, batch=64, pictures=args.pictures)
        path = args.out / f"sample_{which}.safetensors"
        save_file(
            {k: v.contiguous() for k, v in net.state_dict().items()}, path, metadata={"umecache": json.dumps(facts)}
        )  # one entry: their order in the file is random
        told = ", ".join(f"{k} {v}" for k, v in facts.items() if k != "words")
        print(f"{path}: {path.stat().st_size:,} bytes; {told}")


if __name__ == "__main__":
    main()
