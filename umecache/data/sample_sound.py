"""The built-in sample with sound: pictures, a signal that says which shape is meant, a question that says what of it.

    folder = write_sound_sample(Path("sample-sound"), images=1000, seed=0)

    sample-sound/items_train.jsonl    {"id": 1, "text": "What color is it?", "image": ..., "audio": ..., "label": "red"}
    sample-sound/images/train_000001.png ...   sounds/train_000001_circle.wav ...   (and the same for val)

Each kind of shape has its signal (`umecache.data.sounds`). "It" is the shape whose signal is heard, the only one of its
kind; and the picture has another such shape with another answer, about which the same could be asked. So each modality
is needed: the picture has every answer but not which is meant, the sound says which shape but neither what is asked nor
how it looks, and the words say what is asked. The same arguments give the same bytes. 2,000 pictures: 5 s.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np

from umecache.data.sample import check_sizes
from umecache.data.scenes import SIZE, Scene, Shape, draw, make_scene
from umecache.data.sounds import RATE, signal, wav_bytes

CLEAR = 12.0  # pixels from the middle before anyone says "left" or "above"
ASKED = {  # what is asked -> its wordings; words that `sample-text` knows
    "color": ("What color is it?", "Which color does it have?"),
    "across": ("Is it to the left or to the right?", "Is it left or right?"),
    "upright": ("Is it above or below?", "Is it higher or lower?"),
}


def write_sound_sample(
    folder: Path, *, images: int = 1000, seed: int = 0, splits: Sequence[str] = ("train", "val")
) -> Path:
    """Draw pictures, record signals, ask about them, and write the data folder. Splits share no picture and no sound.

    Returns:
        The folder.

    Raises:
        UsageError: as `sample.write_sample`.
    """
    counts = check_sizes(images, splits)
    for name in ("images", "sounds"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    first = item_id = 1  # of all splits
    for split, count in zip(splits, counts, strict=True):
        lines = []
        for image_id in range(first, first + count):
            scene = make_scene(image_id, seed)
            image = f"images/{split}_{image_id:06d}.png"
            items = ask(scene)
            if items:
                draw(scene).save(folder / image)
            for kind in dict.fromkeys(kind for kind, _, _ in items):
                rng = np.random.default_rng([seed, image_id, *kind.encode()])
                (folder / sound_of(split, image_id, kind)).write_bytes(wav_bytes(signal(kind, rng), RATE))
            for kind, text, label in items:
                files = {"image": image, "audio": sound_of(split, image_id, kind)}
                lines.append({"id": item_id, "text": text, **files, "label": label})
                item_id += 1
        first += count
        (folder / f"items_{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def sound_of(split: str, image_id: int, kind: str) -> str:
    """The file of the signal for one kind in one picture; all that is asked about that shape shares it."""
    return f"sounds/{split}_{image_id:06d}_{kind}.wav"


def ask(scene: Scene) -> list[tuple[str, str, str]]:
    """All that can be asked of a scene: (kind that is heard, text, label)."""
    rng = Random(f"umecache sounds {scene.seed} {scene.image_id}")
    kinds = [shape.kind for shape in scene.shapes]
    single = [shape for shape in scene.shapes if kinds.count(shape.kind) == 1]
    items = []
    for shape in single:
        for what, wordings in ASKED.items():
            label = answer(what, shape)
            if label is not None and any(answer(what, other) not in (label, None) for other in single):
                items.append((shape.kind, rng.choice(wordings), label))
    return items


def answer(what: str, shape: Shape) -> str | None:
    """The true answer; None where the shape is too near the middle for one."""
    if what == "color":
        return shape.color
    ahead, words = (shape.x, ("left", "right")) if what == "across" else (shape.y, ("above", "below"))
    if abs(ahead - SIZE / 2) < CLEAR:
        return None
    return words[ahead > SIZE / 2]
