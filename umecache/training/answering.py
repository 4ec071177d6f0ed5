"""New questions to a trained head: encoders as its stores declare them, then the head.

    run = load_run("runs/daquar/ume-20260101-120000")
    run.answer(image="kitchen.jpg", question="what is on the table?")          # [Guess(answer="cup", ...), ...]
    Answerer(run, weights={"mobilenetv2": "../mobilenetv2.safetensors"})        # where weights are not found

Shapes: Q questions, T tokens padded to the longest, D width, C answer classes.

An image is encoded once for all questions about it. Values are rounded as the stores would have rounded them, so a
question of the eval split is answered as it was there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from umecache.encoders.base import Encoder
from umecache.errors import DataError, UmecacheError, UnreadableInput, UsageError
from umecache.extraction.reload import declaration, encode_items, reload_encoder
from umecache.sharing.reading import is_remote, open_store

if TYPE_CHECKING:
    from umecache.training.runs import Run

Item = str | bytes
"""A text, or the bytes of an image or sound file."""


@dataclass(frozen=True, slots=True)
class Guess:
    """One answer, and how probable the head finds it: softmax over all answers, or, after training with `--loss soft`,
    the expected score of this one."""

    answer: str
    probability: float


@dataclass(frozen=True, slots=True)
class _Modality:
    """One of the run's modalities: its encoder and what the store declared of it."""

    name: str
    declared: Mapping[str, Any]
    encoder: Encoder


class Answerer:
    """A run with its encoders loaded.

    Args:
        run: a trained head.
        weights: model name -> checkpoint, where the weights are not found by themselves.

    Attributes:
        seconds: of the last `ask`: one entry per modality for its encoder, and "fusion".

    Raises:
        StoreMismatch: an encoder differs from what the run was trained on.
        UsageError: weights for a model that the run has not.
    """

    def __init__(self, run: Run, *, weights: Mapping[str, str] | None = None) -> None:
        self.run = run
        self.device = next(run.model.parameters()).device
        self.seconds: dict[str, float] = {}
        said = dict(weights or {})
        self._modalities = [self._load(facts, said) for facts in run.facts["features"]]
        if said:
            models = ", ".join(str(each.declared["model"]) for each in self._modalities)
            raise UsageError(f"--weights {next(iter(said))}=...: the run's models are {models}.")

    @property
    def encoders(self) -> list[Encoder]:
        """One per modality, in the order of the run's features."""
        return [each.encoder for each in self._modalities]

    def ask(
        self,
        questions: Sequence[str],
        image: str | Path | bytes | None = None,
        *,
        audio: str | Path | bytes | None = None,
        top: int = 5,
    ) -> list[list[Guess]]:
        """The `top` likeliest answers to each question, best first.

        Args:
            questions: any number, about one image and one sound; none where the head looks at no text.
            image, audio: a file, or its bytes; not needed where the head doesn't look at them.

        Raises:
            UsageError: no question, image or sound where one is needed.
            DataError: the image or the sound can't be read.
        """
        given: dict[str, list[Item]] = {"text": list(questions)} if questions else {}
        for kind, file in (("image", image), ("audio", audio)):
            if file is not None:
                given[kind] = [file if isinstance(file, bytes) else _read(Path(file))]
        self.seconds = {}
        features = {each.name: self._features(each, given, max(len(questions), 1)) for each in self._modalities}
        started = time.perf_counter()
        with torch.inference_mode():
            logits_QC = self.run.logits(features)
            soft = self.run.facts["asked"]["loss"] == "soft"
            share_QC = logits_QC.sigmoid() if soft else logits_QC.softmax(dim=-1)
            best = share_QC.topk(min(top, share_QC.shape[1]), dim=-1)
            rows = list(zip(best.values.tolist(), best.indices.tolist(), strict=True))
        self.seconds["fusion"] = time.perf_counter() - started
        answers = self.run.vocab.answers
        return [[Guess(answers[c], p) for p, c in zip(*row, strict=True)] for row in rows]

    def _features(
        self, modality: _Modality, given: Mapping[str, Sequence[Item]], questions: int
    ) -> tuple[Tensor, Tensor]:
        """Tokens [Q, T, D] and mask [Q, T]; the one image or sound serves all questions."""
        kind = modality.encoder.modality
        if kind not in given:
            flag = "--question TEXT" if kind == "text" else f"--{kind} FILE"
            raise UsageError(f"The run was trained on {kind} features too, and no {kind} is given.", next=flag)
        started = time.perf_counter()
        try:
            records = encode_items(modality.encoder, modality.declared, given[kind], device=self.device)
        except UnreadableInput as error:
            raise DataError(f"The {kind} can't be read.", why=f"{error}.") from error
        longest = max(1, *(len(record_TD) for record_TD in records))
        tokens_RTD = np.zeros((len(records), longest, modality.encoder.dim), np.float32)
        mask_RT = np.zeros((len(records), longest), bool)
        for row, record_TD in enumerate(records):
            tokens_RTD[row, : len(record_TD)] = record_TD
            mask_RT[row, : len(record_TD)] = True
        tokens, mask = torch.from_numpy(tokens_RTD).to(self.device), torch.from_numpy(mask_RT).to(self.device)
        self.seconds[modality.name] = time.perf_counter() - started
        if len(records) == questions:
            return tokens, mask
        return tokens.expand(questions, -1, -1), mask.expand(questions, -1)

    def _load(self, facts: Mapping[str, Any], weights: dict[str, str]) -> _Modality:
        place = facts["stores"][self.run.facts["data"]["train_split"]]["path"]
        store = Path(place)
        if is_remote(place):  # its lists come here, an encoder's own files among them, and no shard
            with contextlib.suppress(UmecacheError):  # most encoders need none of them
                store = open_store(place).path
        # Runs of early versions don't carry the declaration: their stores do.
        declared: Mapping[str, Any] = facts.get("encoder") or declaration(open_store(store))
        if not isinstance(declared.get("model"), str) or not isinstance(declared.get("recipe"), dict):
            raise DataError(
                f"The {facts['name']} features of this run name no encoder.",
                why=f"They were not made by `umecache extract` ({store}).",
                next="run.predict(features) in Python",
            )
        encoder = reload_encoder(declared, weights=weights.pop(declared["model"], None), store=store)
        return _Modality(str(facts["name"]), declared, encoder.to(self.device))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read.", why=f"{error.strerror or type(error).__name__}.") from error
