"""Run folders: what was asked, the trained head, its answers, its history.

    run = load_run("runs/ume-20260101-120000")
    run.answer(image="kitchen.jpg", question="what is on the table?")     # the likeliest answers, best first
    run.predict({"text": (text_BTD, text_mask_BT), "image": (image_BTD, image_mask_BT)})   # from features

    RUN/run.json             what was asked, fingerprints of every store, versions, scores, vocabulary
    RUN/model.safetensors    weights of fusion and classifier
    RUN/results_val.json     answers in the challenge's upload format, every id of the split once
    RUN/history.csv          one line per epoch

A run of several seeds has a `run.json` over all of them and a folder `seed-N` for each, itself a run folder.
"""

from __future__ import annotations

import contextlib
import csv
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from umecache.data.answers import AnswerVocab
from umecache.encoders.base import Json
from umecache.errors import DataError, UsageError
from umecache.extraction.devices import autocast
from umecache.fusion.base import Features, Fusion
from umecache.home import find_run
from umecache.training.head import Epoch
from umecache.training.model import FusionClassifier, build_model

if TYPE_CHECKING:
    from umecache.training.answering import Answerer, Guess

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """A trained head, loaded again.

    Attributes:
        path: its folder (of the seed, where the run has several).
        facts: `run.json`.
        model: fusion and classifier, in eval mode.
        vocab: the answers that its classes stand for.
    """

    path: Path
    facts: Mapping[str, Any]
    model: FusionClassifier
    vocab: AnswerVocab

    @property
    def fusion(self) -> Fusion:
        """The fusion method."""
        return self.model.fusion

    @property
    def head(self) -> torch.nn.Linear:
        """The classifier on the fused vector."""
        return self.model.classifier

    def logits(self, features: Features) -> Tensor:
        """Logits [B, C] of a batch, in the precision of the run, as it answered; gradients flow."""
        device = next(self.model.parameters()).device
        with autocast(device, self.facts.get("asked", {}).get("precision", "float32")):
            logits_BC: Tensor = self.model(features)
        return logits_BC.float()

    def predict(self, features: Features) -> list[str]:
        """The likeliest answer of each question of a batch."""
        with torch.inference_mode():
            best_B = self.logits(features).argmax(dim=-1)
        return [self.vocab.answers[int(answer)] for answer in best_B]

    def answer(
        self,
        *,
        question: str | None = None,
        image: str | Path | bytes | None = None,
        audio: str | Path | bytes | None = None,
        top: int = 5,
    ) -> list[Guess]:
        """The likeliest answers to a new question about an image file (and a sound file), best first.

        The first call loads the encoders; several questions about one image are cheaper by `answerer.ask`.

        Raises:
            UmecacheError: as `Answerer` and `Answerer.ask`.
        """
        return self.answerer.ask([] if question is None else [question], image, audio=audio, top=top)[0]

    @cached_property
    def answerer(self) -> Answerer:
        """The run with its encoders, loaded when first asked for."""
        from umecache.training.answering import Answerer  # transformers and timm load here

        return Answerer(self)


def load_run(path: str | Path, *, seed: int | None = None, device: torch.device | str = "cpu") -> Run:
    """Load a run.

    Args:
        path: a run folder, or its path below `UMECACHE_HOME/runs`.
        seed: which head, where the run has several; None: its first.
        device: where the weights go.

    Raises:
        UsageError: no run, or no such seed.
        DataError: a run folder that can't be read.
    """
    folder = find_run(path)
    facts = _read_facts(folder)
    seeds = [int(each["seed"]) for each in facts["seeds"]]
    if seed is not None and seed not in seeds:
        raise UsageError(f"{folder} has no seed {seed}.", why=f"It has: {', '.join(map(str, seeds))}.")
    if len(seeds) > 1:
        folder = folder / f"seed-{seeds[0] if seed is None else seed}"
        facts = _read_facts(folder)
    try:
        asked, vocab = facts["model"], AnswerVocab.from_json(facts["vocabulary"])
        model = build_model(
            _method(asked),
            dims=asked["dims"],
            classes=len(vocab.answers),
            width=asked["width"],
            dropout=asked["dropout"],
            method_args=asked["method_args"],
        )
        model.load_state_dict(load_file(folder / "model.safetensors", device=str(device)))
    except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise DataError(f"{folder} can't be loaded.", why=f"{type(error).__name__}: {error}") from error
    return Run(folder, facts, model.to(device).eval(), vocab)


def write_run(
    folder: Path,
    facts: Mapping[str, Json],
    *,
    model: FusionClassifier,
    history: Sequence[Epoch],
) -> None:
    """Write one head's files but its answers into an existing folder."""
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    with (folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["epoch", "loss", "lr", "held_out"])
        for line in history:
            held = "" if line.held_out is None else f"{line.held_out:.2f}"
            table.writerow([line.epoch, f"{line.loss:.6g}", f"{line.lr:.6g}", held])
    write_json(folder / "run.json", {"format": FORMAT, **facts})


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """A JSON file that people can read."""
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def versions() -> dict[str, Json]:
    """What the run was computed with."""
    found: dict[str, Json] = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("umecache", "torch", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _method(asked: Mapping[str, Any]) -> str:
    """The method by name; one of the user's own where its file was, for the run may be loaded from another folder."""
    name, file = str(asked["method"]), asked.get("file")
    return f"{file}:{name.rpartition(':')[2]}" if file and Path(file).is_file() else name


def _read_facts(folder: Path) -> dict[str, Any]:
    file = folder / "run.json"
    if (folder / "sweep.json").is_file():
        inside = sorted(each.name for each in folder.iterdir() if (each / "run.json").is_file())
        raise UsageError(f"{folder} holds a run for each of several rates.", next=f"one of: {', '.join(inside)}")
    if not file.is_file():
        raise UsageError(f"{folder} is not a run folder.", why="It has no run.json.", next="umecache fuse makes one")
    try:
        facts = json.loads(file.read_text("utf-8"))
        if isinstance(facts, dict) and facts.get("pretrained"):
            raise UsageError(
                f"{folder} is a pre-training run: it answers nothing.", next=f"umecache fuse --init {folder}"
            )
        if facts["format"] != FORMAT or not facts["seeds"]:
            raise ValueError(f"format {facts['format']!r}; this version reads {FORMAT}")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} can't be read.", why=f"{type(error).__name__}: {error}") from error
    return dict(facts)
