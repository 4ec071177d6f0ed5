"""Pictures of where trained heads look, side by side, with figures of how much the pictures can be believed.

    heads = open_heads([Path("runs/mini")])
    questions = choose_questions(heads, count=3)
    document, figure = explain(heads, questions, sample=32)

Heads in rows, questions in columns, as the thesis that proposed UME shows it. Maps are of `maps.py`; the figures beside
them of `faithfulness.py`, for each picture and, by method, over a sample of questions that nobody chose.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from matplotlib.figure import Figure

from umecache.analysis.faithfulness import Faithfulness, Summary, summarise
from umecache.analysis.heat_panel import Cell, Column, Row, heat_panel
from umecache.analysis.looks import PREDICTED, RIGHT, Head, Look
from umecache.analysis.panel import RIGHT_SCORE
from umecache.analysis.wording import Wording
from umecache.data.dataset import Question, Split
from umecache.data.results import read_results
from umecache.data.scoring import EXACT, score_answer
from umecache.errors import DataError, UsageError
from umecache.extraction.reload import declaration
from umecache.reporting import Reporter, Silent

KIND_WORDS = {"gradcam": "Grad-CAM", "attention": "attention", "pairs": "pair weights"}
_SHOWN_ORDERS = 4  # random orders for one picture; over a sample fewer do


def questions_by_id(split: Split, ids: Sequence[int]) -> list[Question]:
    """The questions of these ids, in this order.

    Raises:
        UsageError: an id that the split has not.
    """
    known = {question.id: question for question in split.questions}
    absent = [number for number in ids if number not in known]
    if absent:
        raise UsageError(
            f"The split {split.name!r} has no question {absent[0]}.",
            why=f"Its first is {split.questions[0].id}.",
            next=f"umecache data info {split.folder}",
        )
    return [known[number] for number in ids]


def choose_questions(
    heads: Sequence[Head], *, count: int = 3, image: int | None = None, draw: int = 0
) -> list[Question]:
    """Questions about one image.

    Without `image`, one is drawn from those with a file and at least `count` questions (else the most there are), those
    first where heads answer differently: where all agree nothing is compared. Who is right plays no part.

    Args:
        image: an image's id.
        draw: another number draws another image.

    Raises:
        UsageError: no such image.
    """
    split = heads[0].inputs.split
    answers = [_results(head) for head in heads] if len(heads) > 1 else []
    about: dict[int, list[Question]] = {}
    for question in split.questions:
        about.setdefault(question.image_id, []).append(question)
    if image is not None:
        if image not in about:
            raise UsageError(f"The split {split.name!r} asks nothing about an image {image}.", next="--questions ID,ID")
        return _few(about[image], answers, count)
    ids = sorted(about)
    Random(draw).shuffle(ids)
    ids.sort(key=lambda each: -min(len(about[each]), count))
    most = min(len(about[ids[0]]), count)
    seen = [each for each in ids if len(about[each]) >= most and split.image_path(each) is not None] or ids[:1]
    telling = (each for each in seen if any(_differs(question, answers) for question in about[each]))
    return _few(about[next(telling, seen[0])], answers, count)


def _few(questions: Sequence[Question], answers: Sequence[Mapping[int, str]], count: int) -> list[Question]:
    """Some questions of an image, those first on which answers differ; in the order of the file."""
    order = sorted(questions, key=lambda question: not _differs(question, answers))
    return [question for question in questions if question in order[:count]]


def _differs(question: Question, answers: Sequence[Mapping[int, str]]) -> bool:
    return len({told.get(question.id) for told in answers}) > 1


def _results(head: Head) -> dict[int, str]:
    file = head.run.path / f"results_{head.inputs.split.name}.json"
    try:
        return read_results(file) if file.is_file() else {}
    except DataError:
        return {}  # it only helps to choose


def explain(
    heads: Sequence[Head],
    questions: Sequence[Question],
    *,
    kinds: Sequence[str] = ("gradcam",),
    target: str = PREDICTED,
    sample: int = 16,
    seed: int = 0,
    weights: Mapping[str, str] | None = None,
    reporter: Reporter | None = None,
) -> tuple[dict[str, Any], Figure]:
    """Compute maps and draw them.

    Args:
        heads: at least one.
        questions: that all of them were evaluated on.
        kinds: of `maps.KINDS`, a row for each that a head has.
        target: the answer that is explained: "predicted", "right", or a word.
        sample: questions, drawn from the split, over which faithfulness is averaged; 0: none.
        seed: of that draw and of random orders.
        weights: model -> checkpoint, for the tokenizer behind the text's tokens.

    Returns:
        The document that `umecache explain --json` prints, less the paths of its files; the figure.

    Raises:
        UsageError: nothing to draw; right answers that are not known.
    """
    split = heads[0].inputs.split
    if target == RIGHT and split.annotations is None:
        raise UsageError(
            f"The right answers of {split.name!r} are not known.",
            why=f"{split.folder} has no annotations of it.",
            next="without --right each head's own answer is explained; --answer WORD names one",
        )
    asked = split.questions
    drawn = Random(seed).sample(asked, min(sample, len(asked)))
    panels: list[dict[str, Any]] = []
    summaries: list[dict[str, Any]] = []
    rows: list[Row] = []
    notes: list[str] = []
    with (reporter or Silent()).task("explaining", len(heads) * (len(questions) + len(drawn)), "questions") as task:
        for head in heads:
            words = _words(head, questions, weights, notes)
            shown = []
            for look in head.look(
                questions, kinds=kinds, target=target, measured=True, orders=_SHOWN_ORDERS, seed=seed
            ):
                shown.append(look)
                task.advance()
            measured: dict[str, list[Faithfulness]] = {}
            for look in head.look(drawn, kinds=kinds, target=target, measured=True, seed=seed):
                for kind, told in look.faithful.items():
                    measured.setdefault(kind, []).append(told)
                task.advance()
            for kind in kinds:
                if not any(kind in look.maps for look in shown):
                    unknown = all(look.target is None for look in shown)
                    lacks = "none of the right answers in its vocabulary" if unknown else f"no {KIND_WORDS[kind]}"
                    notes.append(f"{head.label} has {lacks}.")
                    continue
                summary = summarise(measured[kind]) if measured.get(kind) else None
                summaries.append({"run": head.label, "kind": kind, **_summary_facts(summary)})
                cells = [_cell(head, look, kind, words.get(look.question.id), split) for look in shown]
                rows.append(Row(head.label, _lines(head, kind, summary), tuple(cells)))
                panels += [_panel_facts(head, look, kind, words.get(look.question.id), split) for look in shown]
    if not rows:
        raise UsageError("There is nothing to draw.", why=" ".join(dict.fromkeys(notes)), next="--maps gradcam")
    columns = [
        Column(
            split.image_path(q.image_id), q.text, (split.annotations or {})[q.id].answer if split.annotations else None
        )
        for q in questions
    ]
    document = {
        "runs": [_run_facts(head) for head in heads],
        "questions": [_question_facts(question, split) for question in questions],
        "target": target,
        "panels": panels,
        "faithfulness": summaries,
        "sample": len(drawn),
        "notes": list(dict.fromkeys(notes)),
    }
    return document, heat_panel(columns, rows, note=_note(heads, kinds, target, len(drawn)))


def _words(
    head: Head, questions: Sequence[Question], weights: Mapping[str, str] | None, notes: list[str]
) -> dict[int, list[str]]:
    """Question id -> the words of its tokens, or their numbers."""
    store = head.inputs.store("text")
    if store is None:
        return {}
    wording = Wording(declaration(store), store.path, weights)
    lengths = store.lengths[store.rows([question.id for question in questions])]
    found = {}
    for question, length in zip(questions, lengths.tolist(), strict=True):
        pieces = wording.pieces(question.text, length)
        found[question.id] = pieces or [str(place + 1) for place in range(length)]
    if wording.trouble:
        notes.append(f"Text tokens are numbered: {wording.trouble.rstrip('.')}.")
    return found


def _scored(head: Head, look: Look, split: Split) -> float | None:
    if split.annotations is None:
        return None
    return score_answer(look.answer, split.annotations[look.question.id], head.run.facts["protocol"])


def _cell(head: Head, look: Look, kind: str, words: list[str] | None, split: Split) -> Cell:
    """What a head's panel shows."""
    score = _scored(head, look, split)
    maps, told = look.maps.get(kind, {}), look.faithful.get(kind)
    if look.target is None:
        below = "right answer not in its vocabulary"
    elif head.picture not in maps:
        below = "does not look at the picture"
    elif told is None:
        below = "no features of this picture"
    else:
        below = ""
    values = maps.get("text")
    return Cell(
        heat=_heat(head, maps),
        crop=_crop(head),
        answer=look.answer,
        right=None if score is None else score >= RIGHT_SCORE,
        remark=""
        if look.chance is None
        else f"{'' if look.target == look.answer else f'{look.target} '}{look.chance:.2f}",
        words=() if values is None or words is None else tuple(zip(words, map(float, values), strict=True)),
        below=below,
    )


def _heat(head: Head, maps: Mapping[str, Any]) -> Any:
    """The map on its grid [H, W], prefix left out; None where there is none."""
    if head.picture is None or head.grid is None or head.picture not in maps:
        return None
    values_T = maps[head.picture]
    if len(values_T) != head.grid.tokens:
        return None  # its image could not be read
    return values_T[head.grid.prefix :].reshape(head.grid.height, head.grid.width)


def _crop(head: Head) -> tuple[str, float] | None:
    """How `--crop` cut the picture: the mode, and the share of its side that was kept."""
    store = head.inputs.store(head.picture or "")
    recipe = {} if store is None else dict(store.manifest.get("recipe") or {})
    if not recipe.get("crop"):
        return None
    side = int(recipe["image_size"])
    return str(recipe["crop"]), side / math.floor(side / float(recipe.get("crop_pct") or 1.0))


def _lines(head: Head, kind: str, summary: Summary | None) -> tuple[str, ...]:
    """What stands below a head's name."""
    accuracy = (head.run.facts.get("accuracy") or {}).get("overall")
    lines = [KIND_WORDS[kind]]
    if accuracy is not None:
        lines.append(f"accuracy {accuracy:.1f}")
    if summary is not None:
        lines += [f"del {summary.deletion[0]:.2f}  ins {summary.insertion[0]:.2f}", f"random {summary.random[0]:.2f}"]
        spread = "" if math.isnan(summary.gain[1]) else f" ± {summary.gain[1]:.2f}"
        lines.append(f"gain {summary.gain[0]:+.2f}{spread}".replace("-0.00", "0.00").replace("-", "\u2212"))
    return tuple(lines)


def _note(heads: Sequence[Head], kinds: Sequence[str], target: str, sample: int) -> str:
    of = {PREDICTED: "each head's own answer", RIGHT: "the right answer"}.get(target, f"the answer {target!r}")
    grids = {f"{head.grid.height} x {head.grid.width}" for head in heads if head.grid is not None}
    said = []
    if "gradcam" in kinds:
        said.append(f"Grad-CAM of {of} on cached tokens ({', '.join(sorted(grids)) or 'no grid'}).")
    labelled = any(head.run.facts["protocol"] == EXACT for head in heads)
    wrong = "it is not the label" if labelled else "fewer than two other people gave that answer"
    said.append(f"Number: its probability. Struck through: {wrong}.")
    if sample:
        said.append(
            f"Left, over {sample} random questions: area under the deletion curve (small is good), the insertion curve "
            "(large is good), either for random orders; gain: insertion less deletion, 0 for a map that tells nothing."
        )
    return " ".join(said)


def _run_facts(head: Head) -> dict[str, Any]:
    facts = head.run.facts
    return {
        "run": os.fspath(head.run.path),
        "label": head.label,
        "method": facts["method"],
        "seed": facts["seeds"][0]["seed"],
        "accuracy": (facts.get("accuracy") or {}).get("overall"),
        "stores": {
            source.name: source.stores[head.inputs.split.name].fingerprint for source in head.inputs.sources
        },
        "grid": None if head.grid is None else {
            "height": head.grid.height, "width": head.grid.width, "prefix": head.grid.prefix
        },
    }  # fmt: skip


def _question_facts(question: Question, split: Split) -> dict[str, Any]:
    path = split.image_path(question.image_id)
    return {
        "id": question.id,
        "image_id": question.image_id,
        "image": None if path is None else os.fspath(path),
        "question": question.text,
        "answer": split.annotations[question.id].answer if split.annotations else None,
    }


def _panel_facts(head: Head, look: Look, kind: str, words: list[str] | None, split: Split) -> dict[str, Any]:
    maps, told, score = look.maps.get(kind, {}), look.faithful.get(kind), _scored(head, look, split)
    heat, text = _heat(head, maps), maps.get("text")
    return {
        "run": head.label,
        "kind": kind,
        "question": look.question.id,
        "prediction": look.answer,
        "score": score,
        "target": look.target,
        "probability": look.chance,
        "image_map": None if heat is None else [[round(float(value), 6) for value in line] for line in heat],
        "text_tokens": None if text is None else words,
        "text_map": None if text is None else [round(float(value), 6) for value in text],
        "faithfulness": None if told is None else {
            "deletion": round(told.deletion, 4), "insertion": round(told.insertion, 4),
            "random": round(told.random, 4), "gain": round(told.gain, 4),
            "shares": [round(float(value), 4) for value in told.shares],
            "deletion_curve": [round(float(value), 4) for value in told.deletion_curve],
            "insertion_curve": [round(float(value), 4) for value in told.insertion_curve],
        },
    }  # fmt: skip


def _summary_facts(summary: Summary | None) -> dict[str, Any]:
    """Means and standard errors over the sample."""
    if summary is None:
        return {"questions": 0, "deletion": None, "insertion": None, "random": None, "gain": None}
    named = {name: getattr(summary, name) for name in ("deletion", "insertion", "random", "gain")}
    told = {
        name: {"mean": round(mean, 4), "error": None if math.isnan(error) else round(error, 4)}
        for name, (mean, error) in named.items()
    }
    return {"questions": summary.questions, **told}
