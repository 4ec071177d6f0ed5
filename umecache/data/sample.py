"""The built-in sample: drawn pictures and questions about them, as a VQA-format folder of any size.

    folder = write_sample(Path("sample"), images=1000, seed=0)

    sample/images/SAMPLE_train_000000000001.jpg ...
    sample/questions_train.json   annotations_train.json   scenes_train.json   (and the same for val)

Like VQA v2 (Goyal et al., CVPR 2017, arXiv:1612.00837, section 3) it is balanced: every question is asked of two
pictures with different answers. So the question alone gives a prior, and the picture alone does not say what was
asked. Ten annotators answer each question; they err, hesitate and spell as people do. `scenes_SPLIT.json` says what
was drawn; nothing but tests and the training of the sample's image encoder reads it.

The same arguments give the same bytes (with the same versions of Pillow and NumPy). 1,000 images: about 5 s.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from umecache.data.scene_questions import FAMILIES, Query, all_queries
from umecache.data.scenes import COLORS, KINDS, Scene, draw, make_scene
from umecache.errors import UsageError

TRAIN_SHARE = 0.8  # of the images go to the first split; the other splits share the rest evenly
QUESTIONS_PER_IMAGE = 6
_WEIGHTS = {"color": 5, "shape": 5, "count": 5, "exist": 5, "relation": 2, "which": 1}  # how often each is asked
_MIN_IMAGES = 20

# VQA's question types are the first words that questions share; of two that fit, the longer.
_QUESTION_TYPES = (
    *("what color is the", "what is the color of the", "what is the", "what is", "what", "which", "how many"),
    *("is there a", "is there", "are there any", "do you", "is the"),
)

_CONFUSED = {"red": "purple", "yellow": "green", "green": "blue", "blue": "purple", "purple": "blue"}
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five")
_SYNONYMS = {
    "purple": ("violet",),
    "circle": ("round", "a circle", "ball"),
    "square": ("a square", "box"),
    "triangle": ("a triangle",),
    "star": ("a star",),
    "yes": ("Yes", "yes."),
    "no": ("No", "no."),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question put to one picture."""

    query: Query
    text: str
    answer: str  # the true one


def write_sample(
    folder: str | Path, *, images: int = 1000, seed: int = 0, splits: Sequence[str] = ("train", "val")
) -> Path:
    """Draw `images` pictures (of all splits together), ask about six questions of each, and write the data folder.

    Splits share no picture. Files of the same names are replaced.

    Returns:
        The folder.

    Raises:
        UsageError: fewer than 20 images per split, or no split or a doubled one is named.
    """
    counts = check_sizes(images, splits)
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    first = 1
    for split, count in zip(splits, counts, strict=True):
        scenes = [make_scene(image_id, seed) for image_id in range(first, first + count)]
        first += count
        for scene in scenes:
            draw(scene).save(folder / "images" / f"SAMPLE_{split}_{scene.image_id:012d}.jpg", quality=92, subsampling=0)
        asked = ask(scenes, per_image=QUESTIONS_PER_IMAGE, seed=seed)
        _write_json(folder / f"scenes_{split}.json", {"scenes": [asdict(scene) for scene in scenes]})
        _write_split(folder, split, asked, seed)
    return folder


def check_sizes(images: int, splits: Sequence[str]) -> list[int]:
    """How many pictures each split gets.

    Raises:
        UsageError: as `write_sample`.
    """
    if not splits or len(set(splits)) != len(splits):
        raise UsageError(f"The splits {list(splits)} must be at least one name, each once.", next="name train and val")
    others = len(splits) - 1
    rest = round(images * (1 - TRAIN_SHARE)) // others if others else 0
    if min([rest] * others + [images - rest * others]) < _MIN_IMAGES:
        raise UsageError(
            f"A sample of {images} images is too small for {len(splits)} splits.",
            why=f"Each needs {_MIN_IMAGES} pictures, or too few pairs have different answers.",
            next=f"ask for {round(_MIN_IMAGES * others / (1 - TRAIN_SHARE)) if others else _MIN_IMAGES} images or more",
        )
    return [images - rest * others] + [rest] * others


def ask(scenes: Sequence[Scene], *, per_image: int, seed: int) -> dict[int, list[Asked]]:
    """Balanced questions: image id -> what is asked of it, about `per_image` each.

    Each step takes a question, a picture where it makes sense, and a second picture where the answer differs; both
    are asked in the same words.
    """
    rng = Random(f"umecache questions {seed} {scenes[0].image_id}")
    asked: dict[int, list[Asked]] = {scene.image_id: [] for scene in scenes}
    by_family = {family: all_queries(family) for family in FAMILIES}
    answers: dict[Query, list[tuple[int, str]]] = {}
    families, weights = zip(*_WEIGHTS.items(), strict=True)
    for _ in range(len(scenes) * per_image // 2):
        for _attempt in range(100):
            query = rng.choice(by_family[rng.choices(families, weights)[0]])
            if query not in answers:
                given = ((scene.image_id, query.answer(scene)) for scene in scenes)
                answers[query] = [(image_id, answer) for image_id, answer in given if answer is not None]
            pair = _pair(query, answers[query], asked, rng)
            if pair is not None:
                text = rng.choice(query.phrasings())
                for image_id, answer in pair:
                    asked[image_id].append(Asked(query, text, answer))
                break
    return asked


def _pair(
    query: Query, given: list[tuple[int, str]], asked: Mapping[int, list[Asked]], rng: Random
) -> tuple[tuple[int, str], tuple[int, str]] | None:
    """Two pictures with different answers that were not asked this yet; those with few questions come first."""

    def pick(candidates: list[tuple[int, str]]) -> tuple[int, str] | None:
        fresh = [c for c in candidates if all(a.query != query for a in asked[c[0]])]
        few = rng.sample(fresh, min(4, len(fresh)))
        return min(few, key=lambda c: len(asked[c[0]])) if few else None

    first = pick(given)
    if first is None:
        return None
    # The second answer is drawn among the answers, not among the pictures, so that rare answers are asked for too.
    second_answers = sorted({answer for _, answer in given} - {first[1]})
    if not second_answers:
        return None
    wanted = rng.choice(second_answers)
    second = pick([c for c in given if c[1] == wanted])
    return None if second is None else (first, second)


def _write_split(folder: Path, split: str, asked: Mapping[int, list[Asked]], seed: int) -> None:
    questions, annotations = [], []
    for image_id, group in asked.items():
        for number, item in enumerate(group):
            key = {"image_id": image_id, "question_id": image_id * 1000 + number}
            questions.append({**key, "question": item.text})
            annotations.append({**key, **annotate(item, Random(f"umecache annotators {seed} {key['question_id']}"))})
    head = {
        "info": {"description": "umecache's built-in sample: drawn shapes", "version": "1.0"},
        "data_type": "umecache-sample",
        "data_subtype": split,
        "license": {"name": "Apache License 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
    }
    _write_json(folder / f"questions_{split}.json", {**head, "task_type": "Open-Ended", "questions": questions})
    _write_json(folder / f"annotations_{split}.json", {**head, "annotations": annotations})


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")


def annotate(item: Asked, rng: Random) -> dict[str, object]:
    """One VQA annotation without its ids: ten answers, their most common one, question type and answer type.

    Most questions are easy: an annotator errs once in 50. One in ten is hard (bad screens, doubt): once in five.
    """
    wrong_rate = 0.2 if rng.random() < 0.1 else 0.02
    meant: Counter[str] = Counter()
    answers: list[dict[str, object]] = []
    for number in range(1, 11):
        wrong = rng.random() < wrong_rate
        answer = _mistake(item, rng) if wrong else item.answer
        meant[answer] += 1
        confidence = rng.choices(("yes", "maybe", "no"), (5, 4, 1) if wrong else (16, 3, 1))[0]
        answers.append({"answer": _spell(answer, rng), "answer_confidence": confidence, "answer_id": number})
    return {
        "question_type": question_type(item.text),
        "answer_type": answer_type(item.query),
        "multiple_choice_answer": meant.most_common(1)[0][0],
        "answers": answers,
    }


def _mistake(item: Asked, rng: Random) -> str:
    """A wrong answer of the right sort: the near colour, one too many, the other of the two."""
    true, query = item.answer, item.query
    if query.family == "count":
        return str(max(0, int(true) + rng.choice((-1, 1)))) if true != "0" else "1"
    if true in ("yes", "no"):
        return "no" if true == "yes" else "yes"
    if query.family == "which":
        return next(a for n in (query.noun, query.other) if (a := n.kind or n.color) is not None and a != true)
    if true in _CONFUSED and rng.random() < 0.7:
        return _CONFUSED[true]
    return rng.choice([other for other in (COLORS if true in COLORS else KINDS) if other != true])


def _spell(answer: str, rng: Random) -> str:
    """The answer as one annotator types it; one in eight does not write the plain form."""
    if rng.random() >= 0.125:
        return answer
    if answer.isdigit():
        return _NUMBER_WORDS[int(answer)]
    return rng.choice(_SYNONYMS.get(answer, (answer, answer.capitalize())))


def question_type(text: str) -> str:
    """The VQA question type of a sample question: the longest known beginning."""
    fits = [start for start in _QUESTION_TYPES if text.lower().startswith(start + " ")]
    return max(fits, key=len, default="none of the above")


def answer_type(query: Query) -> str:
    """VQA's three: yes/no, number, other."""
    if query.family in ("exist", "relation"):
        return "yes/no"
    return "number" if query.family == "count" else "other"
