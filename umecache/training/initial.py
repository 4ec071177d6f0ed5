"""Where heads start from, if not from their seeds: the fusion of a pre-training run.

initial = load_initial("runs/ume-pretrained")
initial.into("ume", model)         # the fusion's weights; the classifier stays as its seed made it

RUN/run.json                  method, arguments, widths, the stores it was trained on
RUN/pretrained.safetensors    weights of the fusion, and of what only its objectives need
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from umecache.encoders.base import Json
from umecache.errors import DataError, UsageError
from umecache.home import find_run
from umecache.stores import diff_facts
from umecache.training.config import TrainConfig
from umecache.training.model import FusionClassifier

if TYPE_CHECKING:
    from umecache.training.questions import Questions
    from umecache.training.resolve import Source

WEIGHTS = "pretrained.safetensors"
KEPT = ("fusion.", "mix.")  # what a head takes over
_SHOWN = 3  # differences named in an error


@dataclass(frozen=True, slots=True)
class Initial:
    """A pre-training run.

    Attributes:
        path: its folder.
        facts: its `run.json`.
        weights: of fusion and mix, by their names in a head.
        digest: SHA-256 of the weights' file.
    """

    path: Path
    facts: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    digest: str

    @property
    def method(self) -> str:
        """The method that was pre-trained."""
        return str(self.facts["model"]["method"])

    def into(self, method: str, model: FusionClassifier) -> None:
        """Put the weights into a fresh head; one of another method stays as it is."""
        if method == self.method:
            own = model.state_dict()
            own.update(self.weights)
            model.load_state_dict(own)

    def told(self) -> dict[str, Json]:
        """What the run that starts here says of it."""
        return {"run": str(self.path), "method": self.method, "sha256": self.digest}


def load_initial(path: str | Path) -> Initial:
    """Read a pre-training run.

    Raises:
        UsageError: it is none.
        DataError: it can't be read.
    """
    folder = find_run(path)
    file = folder / "run.json"
    if not file.is_file():
        raise UsageError(
            f"--init {folder} is no run folder.", why="It has no run.json.", next="umecache pretrain --method ume"
        )
    try:
        facts = json.loads(file.read_text("utf-8"))
        if not facts.get("pretrained"):
            raise UsageError(
                f"--init {folder} is not a pre-training run.",
                why="Its weights were trained on answers.",
                next="umecache pretrain --method ume makes one",
            )
        found = load_file(folder / WEIGHTS)
        weights = {name: value for name, value in found.items() if name.startswith(KEPT)}
        digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        initial = Initial(folder, facts, weights, digest)
        _ = initial.method, facts["model"]["dims"], facts["data"]
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        raise DataError(f"{folder} can't be read.", why=f"{type(error).__name__}: {error}") from error
    return initial


def check_initial(
    config: TrainConfig,
    arguments: Mapping[str, Mapping[str, Json]],
    cells: Sequence[Sequence[Source]],
    questions: Questions,
) -> None:
    """Refuse a pre-training run that does not fit a run's heads, before anything is read.

    Args:
        config: `init` is the run; None: there is nothing to check.
        arguments: method -> its arguments.
        cells: the features of every pass.
        questions: what heads are scored on; the fusion must not have seen that split.

    Raises:
        UsageError: another method, other arguments, widths or encoders; or it was pre-trained on the eval split.
    """
    if config.init is None:
        return
    initial = load_initial(config.init)
    if initial.method not in arguments:
        raise UsageError(
            f"--init {config.init} holds the method {initial.method!r}; asked for: {', '.join(arguments)}.",
            next=f"umecache pretrain --method {next(iter(arguments))}",
        )
    model = initial.facts["model"]
    for sources in cells:
        then = {key: model.get(key) for key in ("method_args", "width", "dims", "encoders")}
        now = {
            "method_args": dict(arguments[initial.method]),
            "width": config.width,
            "dims": {source.name: source.dim for source in sources},
            "encoders": {source.name: source.model for source in sources},
        }
        lines = diff_facts(then, json.loads(json.dumps(now)))
        if list(now["dims"]) != list(model["dims"]) and not lines:  # type: ignore[call-overload]
            lines = ["the modalities come in another order"]
        if lines:
            words = "; ".join(lines[:_SHOWN])
            raise UsageError(
                f"--init {config.init} does not fit this run.",
                why=f"{words.replace('in the first', 'pre-trained').replace('in the second', 'asked now')}.",
                next="the options it was pre-trained with, or umecache pretrain with these",
            )
    data = initial.facts["data"]
    if (data["folder"], data["train_split"]) == (str(questions.dataset.folder), questions.evaluation.name):
        raise UsageError(
            f"--init {config.init} was pre-trained on {data['train_split']!r}, the split that is scored.",
            why="An accuracy on questions and images that the fusion was trained on flatters it.",
            next="umecache pretrain on the train split",
        )
