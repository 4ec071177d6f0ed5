"""How unlike the tokens of the modalities are, before and after a method's joint stage: the claim of UME's thesis.

    found = measure_rows(document, folder, split)             # for a report; None where the stores are gone
    told = measures(stage)                                    # of tokens at hand

Before: the tokens H_m P_m, projected to one width, which every method starts from. After: `Fusion.joint_tokens`, each
modality's own tokens behind the stage in which modalities see one another. Methods whose modalities meet as pooled
vectors, in pairs or in latents have none, and so no figure after.

- gap: distance of the modalities' mean tokens over the spread, the root mean square distance of a token from its own
  modality's mean. 0: same centre. Liang et al., Mind the Gap (NeurIPS 2022, arXiv:2203.02053), who take the distance
  alone, on normalised vectors; divided by the spread it can be compared between methods.
- cka: linear CKA (Kornblith et al., ICML 2019, arXiv:1905.00414) between modalities, each question's tokens averaged,
  with the unbiased HSIC of Song et al. (JMLR 2012), as in Nguyen et al. (ICLR 2021, arXiv:2010.15327): the biased one
  is near 1 for any two sets of vectors that are wider than they are many. 0: unrelated, 1: the same up to rotation.
- probe: how often a linear classifier (ridge regression on +1 and -1, closed form) tells on held-out images which
  modality a token is of, percent; 50 is chance.
- rank: effective rank of the tokens, exp of the entropy of their normalised singular values (Roy & Vetterli, EUSIPCO
  2007), not centred: tokens that all become one vector have rank 1.
- spread: root mean square distance from the mean token over its length; 0: all tokens equal.

Of more than two modalities gap, cka and probe are means over pairs. As many tokens of each modality are taken.

Shapes: Q questions, N tokens of one modality, K width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from umecache.analysis.evidence import local
from umecache.analysis.inputs import Inputs, open_inputs
from umecache.analysis.maps import mixed
from umecache.analysis.sections import labels
from umecache.data.dataset import Question, Split
from umecache.errors import UmecacheError
from umecache.fusion.base import Features
from umecache.fusion.layers import TokenProjection
from umecache.training.runs import Run, load_run

SAMPLE = 512  # questions
TOKENS = 8  # of each modality and question
NAMES = ("gap", "cka", "probe", "rank", "spread")
_BATCH = 32
_POSSIBLE = {"gap": (0, None), "cka": (None, 1), "probe": (0, 100), "rank": (1, None), "spread": (0, None)}
_STUDENT = (12.7062, 4.30265, 3.18245, 2.77645, 2.57058, 2.44691, 2.36462, 2.306, 2.26216)  # 1 to 9 degrees
_RIDGE = 1e-2  # of the mean variance: the probe's weights stay finite where tokens have collapsed
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Those of one modality at one stage.

    Attributes:
        values: a sample of tokens [N, K].
        images: the image of the question of each [N].
        pooled: each question's mean token [Q, K], zero where it has none.
    """

    values: Floats
    images: NDArray[np.int64]
    pooled: Floats


def modality_gap(a_NK: Floats, b_NK: Floats) -> float:
    """Distance of the mean tokens over the spread around them; 0 / 0 is 0."""
    means = a_NK.mean(0), b_NK.mean(0)
    apart = float(np.linalg.norm(means[0] - means[1]))
    within = [((x_NK - mean) ** 2).sum(1).mean() for x_NK, mean in zip((a_NK, b_NK), means, strict=True)]
    return apart / max(float(np.sqrt(np.mean(within))), 1e-12) if apart > 0 else 0.0


def linear_cka(x_QK: Floats, y_QK: Floats) -> float:
    """Debiased linear CKA of two descriptions of the same questions; NaN of less than four, or of constant ones."""
    if len(x_QK) < 4:
        return float("nan")
    # Centring changes nothing in theory; it keeps large means out of the sums.
    k_QQ, l_QQ = ((z - z.mean(0)) @ (z - z.mean(0)).T for z in (x_QK, y_QK))
    for gram in (k_QQ, l_QQ):
        np.fill_diagonal(gram, 0)
    own = _hsic(k_QQ, k_QQ) * _hsic(l_QQ, l_QQ)
    return _hsic(k_QQ, l_QQ) / float(np.sqrt(own)) if own > 0 else float("nan")


def _hsic(k_QQ: Floats, l_QQ: Floats) -> float:
    """The unbiased estimator from Gram matrices without their diagonals (Song et al., 2012, equation 5)."""
    n = len(k_QQ)
    rows = k_QQ.sum(0) @ l_QQ.sum(0)
    total = (k_QQ * l_QQ).sum() + k_QQ.sum() * l_QQ.sum() / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)
    return float(total / (n * (n - 3)))


def probe_accuracy(a_NK: Floats, b_NK: Floats, a_images_N: NDArray[np.int64], b_images_N: NDArray[np.int64]) -> float:
    """How often a linear probe tells a from b on images it was not fitted on, percent; NaN where there are too few."""
    x, images = np.concatenate([a_NK, b_NK]), np.concatenate([a_images_N, b_images_N])
    y = np.concatenate([np.ones(len(a_NK)), -np.ones(len(b_NK))])
    held = np.isin(images, np.random.default_rng(0).permutation(np.unique(images))[::2])
    if any(not (part & (y == sign)).any() for part in (held, ~held) for sign in (1, -1)):
        return float("nan")
    centre, scale = x[~held].mean(0), np.maximum(x[~held].std(0), 1e-12)
    z = np.column_stack([(x - centre) / scale, np.ones(len(x))])
    gram = z[~held].T @ z[~held]
    weights = np.linalg.solve(gram + _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram)), z[~held].T @ y[~held])
    right = np.sign(z @ weights) == y
    return 50 * float(right[held & (y == 1)].mean() + right[held & (y == -1)].mean())


def effective_rank(x_NK: Floats) -> float:
    """exp of the entropy of the normalised singular values."""
    values = np.linalg.svd(x_NK, compute_uv=False)
    p = values[values > 0] / max(float(values.sum()), 1e-300)
    return float(np.exp(-(p * np.log(p)).sum())) if len(p) else 0.0


def token_spread(x_NK: Floats) -> float:
    """Root mean square distance from the mean token over its length."""
    mean_K = x_NK.mean(0)
    return float(np.sqrt(((x_NK - mean_K) ** 2).sum(1).mean()) / max(float(np.linalg.norm(mean_K)), 1e-12))


def measures(stage: Mapping[str, Tokens]) -> dict[str, float]:
    """All figures of one stage (`NAMES`); those between modalities are NaN where there is only one."""
    fewest = min(len(tokens.values) for tokens in stage.values())
    rng = np.random.default_rng(0)
    chosen = {name: np.sort(rng.permutation(len(tokens.values))[:fewest]) for name, tokens in stage.items()}
    values = {name: tokens.values[chosen[name]] for name, tokens in stage.items()}
    images = {name: tokens.images[chosen[name]] for name, tokens in stage.items()}
    pairs = list(combinations(stage, 2))

    def mean(found: list[float]) -> float:
        return float(np.mean(found)) if found else float("nan")

    together = np.concatenate(list(values.values()))
    return {
        "gap": mean([modality_gap(values[a], values[b]) for a, b in pairs]),
        "cka": mean([linear_cka(stage[a].pooled, stage[b].pooled) for a, b in pairs]),
        "probe": mean([probe_accuracy(values[a], values[b], images[a], images[b]) for a, b in pairs]),
        "rank": effective_rank(together),
        "spread": token_spread(together),
    }


@torch.no_grad()
def stages(run: Run, inputs: Inputs, questions: Sequence[Question]) -> dict[str, dict[str, Tokens]]:
    """ "before" and "after" -> modality -> tokens; a stage that a method has not is left out."""
    rng = np.random.default_rng(0)
    parts: dict[str, dict[str, list[Tokens]]] = {}
    for first in range(0, len(questions), _BATCH):
        asked = questions[first : first + _BATCH]
        features = mixed(run.model, inputs.gather(asked))
        images_B = np.array([question.image_id for question in asked], np.int64)
        project = getattr(run.fusion, "project", None)
        found: dict[str, Features | None] = {"after": run.fusion.joint_tokens(features)}
        if isinstance(project, TokenProjection):
            found["before"] = dict(zip(project.modalities, project(features), strict=True))
        for stage, by_modality in found.items():
            for name, (tokens, mask) in (by_modality or {}).items():
                told = _sample(tokens.double().numpy(), mask.numpy(), images_B, rng)
                parts.setdefault(stage, {}).setdefault(name, []).append(told)
    return {
        stage: {
            name: Tokens(*(np.concatenate([getattr(part, field) for part in listed]) for field in Tokens.__slots__))
            for name, listed in by_modality.items()
        }
        for stage, by_modality in parts.items()
    }


def _sample(x_BTK: Floats, mask_BT: NDArray[np.bool_], images_B: NDArray[np.int64], rng: np.random.Generator) -> Tokens:
    """At most `TOKENS` real tokens of each question, at random."""
    place = np.where(mask_BT, rng.random(mask_BT.shape), 2.0)
    at_BT = np.argsort(place, axis=1)[:, :TOKENS]
    kept_BT = np.take_along_axis(mask_BT, at_BT, 1)
    values = np.take_along_axis(x_BTK, at_BT[..., None], 1)[kept_BT]
    images = np.broadcast_to(images_B[:, None], kept_BT.shape)[kept_BT]
    total_BK = np.where(mask_BT[..., None], x_BTK, 0).sum(1)
    return Tokens(values, images, total_BK / np.maximum(mask_BT.sum(1, keepdims=True), 1))


def measure_rows(
    document: Mapping[str, Any], folder: Path, split: Split, *, sample: int = SAMPLE
) -> dict[str, Any] | None:
    """Figures of every row of a comparison, means over its seeds.

    Args:
        document: of a comparison in `folder`.
        split: its eval split.
        sample: questions, drawn from the split; 0: nothing is measured.

    Returns:
        `questions`, and `rows` with `before` and `after`, the same for single `seeds`, and 95 % `interval`s over seeds
        (Student's t; of these questions); or `unavailable`, why there are none; None where none are wanted.
    """
    if not sample:
        return None
    asked = split.questions
    places = np.sort(np.random.default_rng(0).permutation(len(asked))[:sample])
    questions = [asked[place] for place in places.tolist()]
    opened: dict[str, Inputs] = {}  # most rows read the same stores
    rows = []
    try:
        for name, row in zip(labels(document), document["rows"], strict=True):
            found: dict[str, list[dict[str, float]]] = {}
            for seed in row["seeds"]:
                run = load_run(local(document, seed["results"], folder).parent)
                key = json.dumps(run.facts["features"], sort_keys=True)
                if key not in opened:
                    opened[key] = open_inputs(run, split=split)
                for stage, tokens in stages(run, opened[key], questions).items():
                    found.setdefault(stage, []).append(measures(tokens))
            rows.append(_row(name, found))
    except (UmecacheError, KeyError) as error:
        why = error.what if isinstance(error, UmecacheError) else f"{type(error).__name__}: {error}"
        return {"unavailable": why}
    return {"questions": len(questions), "rows": rows}


def _row(name: str, found: Mapping[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Means over seeds, single seeds and intervals, by stage; None for a stage that the method has not."""
    row: dict[str, Any] = {"row": name, "before": None, "after": None}
    row |= {"seeds": {"before": None, "after": None}, "interval": {"before": None, "after": None}}
    for stage, seeds in found.items():
        row[stage] = _rounded({key: float(np.mean([each[key] for each in seeds])) for key in NAMES})
        row["seeds"][stage] = [_rounded(each) for each in seeds]
        row["interval"][stage] = _intervals(seeds)
    return row


def _rounded(told: Mapping[str, float]) -> dict[str, float | None]:
    """None for what can't be told."""
    return {name: round(told[name], 4) if np.isfinite(told[name]) else None for name in NAMES}


def _intervals(found: Sequence[Mapping[str, float]]) -> dict[str, list[float] | None]:
    """Of the mean of any seeds; None of one seed, and of what can't be told."""
    told: dict[str, list[float] | None] = {}
    for name in NAMES:
        values = np.array([each[name] for each in found])
        if len(values) < 2 or not np.isfinite(values).all():
            told[name] = None
            continue
        reach = student(len(values) - 1) * float(values.std(ddof=1)) / len(values) ** 0.5
        ends = np.clip([values.mean() - reach, values.mean() + reach], *_POSSIBLE[name])
        told[name] = [round(float(end), 4) for end in ends]
    return told


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t: a table, and behind it two terms of its series in 1 / freedom."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    return 1.95996 + 2.37227 / freedom + 2.8225 / freedom**2
