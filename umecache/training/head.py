"""One head in training: a fusion with its classifier, optimizer, schedule, early stopping and random state of its own.

    head = Head(HeadSpec(method="ume", seed=0, lr=1e-3), config, dims=dims, classes=1000, steps=1250, device=device)
    head.step(features, target_B)
    answers_B = head.predict(features)

Shapes: B batch, C answer classes.

Heads share nothing but the batches they are shown, so one that is trained among others ends up the same, bit for bit
on the CPU, as one that is trained alone.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from umecache.encoders.base import Json
from umecache.errors import JobFailed
from umecache.extraction.devices import autocast
from umecache.fusion.base import Features
from umecache.training.config import TrainConfig
from umecache.training.initial import Initial
from umecache.training.model import FusionClassifier, build_model
from umecache.training.randomness import RandomState

CHECK_EVERY = 50  # steps between looks at the loss: each look waits for the device


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """What tells one head of a run from another."""

    method: str
    seed: int
    lr: float
    method_args: Mapping[str, Json] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """In messages."""
        return f"{self.method}, seed {self.seed}, lr {self.lr:g}"

    @property
    def label(self) -> str:
        """Its curves in a tracker."""
        return f"{self.method}/lr-{self.lr:g}/seed-{self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One line of `history.csv`."""

    epoch: int  # from 1
    loss: float  # mean of the epoch's batches
    lr: float  # at the epoch's end
    held_out: float | None  # accuracy on the held-out part of train, in percent; None where nothing is held out

    def figures(self) -> dict[str, float]:
        """What a tracker hears."""
        told = {"loss": self.loss, "lr": self.lr}
        return told if self.held_out is None else {**told, "held_out": self.held_out}


class Head:
    """See the module.

    Args:
        spec: method, seed, rate.
        config: what all heads of the run share.
        dims: modality -> width of its features.
        classes: C.
        steps: optimizer steps of the whole training, for the schedule.
        device: where it trains.
        initial: pre-trained weights of the fusion; None: those of the seed.

    Attributes:
        model: the FusionClassifier.
        history: one record per finished epoch.
        seconds: time of this head's own steps and predictions; on GPUs only what the host saw of it.
        failure: why it can't go on (a loss that is not finite), else None.
        closed: its training is over.
        stacked: it shared passes with other seeds (`stack.py`).
        random: the random numbers that are its own.
        facts: what its fusion tells of the last batch that was answered.
    """

    def __init__(
        self,
        spec: HeadSpec,
        config: TrainConfig,
        *,
        dims: Mapping[str, int],
        classes: int,
        steps: int,
        device: torch.device,
        initial: Initial | None = None,
    ) -> None:
        self.spec, self.config, self.device = spec, config, device
        self.history: list[Epoch] = []
        self.seconds = 0.0
        self.failure: JobFailed | None = None
        self.random = RandomState(spec.seed, device)
        with self.random.active():
            # Drawn on the CPU, so that a seed gives the same weights on every device.
            self.model = self._build(dims, classes)
        if initial is not None:
            initial.into(spec.method, self.model)
        self.model.to(device)
        self.parameters = sum(weight.numel() for weight in self.model.parameters())
        optimizer = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        fused = device.type in ("cpu", "cuda")  # one kernel for a whole step, where torch has one
        self._optimizer = optimizer(self.model.parameters(), lr=spec.lr, weight_decay=config.weight_decay, fused=fused)
        # float16 loses small gradients: the loss is scaled up before them, and they are scaled down again.
        self._scaler = torch.amp.GradScaler(device.type) if config.precision == "float16" else None
        self._average = _frozen_copy(self.model) if config.ema else None
        self._steps, self._step = steps, 0
        self._losses: list[Tensor] = []
        self._best: dict[str, Tensor] | None = None
        self._best_score, self.best_epoch = -math.inf, 0
        self.closed = self.stacked = False
        self.facts: dict[str, float] = {}

    @property
    def finished(self) -> bool:
        """It has stopped early, or failed."""
        patience = self.config.patience
        waited = len(self.history) - self.best_epoch
        return self.failure is not None or (patience is not None and bool(self.history) and waited >= patience)

    @property
    def held_out(self) -> float | None:
        """Accuracy on the held-out part, in percent: of the weights that are kept; None where it failed or none is."""
        if self.failure is not None or not self.history:
            return None
        kept = self.best_epoch if self.config.patience is not None else len(self.history)
        return self.history[kept - 1].held_out

    def step(self, features: Features, target: Tensor, *, weight: float = 1.0, update: bool = True) -> None:
        """Learn from a batch: one optimizer step, or a part of one.

        Args:
            features: modality -> (tokens, mask).
            target: classes [B] int64, or soft scores [B, C].
            weight: the batch's share of the questions of this step, where several batches make one.
            update: whether the step ends here; else gradients are kept for the next batch.
        """
        started = time.perf_counter()
        self.model.train()
        with self.random.active():
            loss = self._loss(features, target)
            self.scaled(loss if weight == 1.0 else weight * loss).backward()  # type: ignore[no-untyped-call]
        self.learn(loss.detach(), update=update)
        self.seconds += time.perf_counter() - started

    def _build(self, dims: Mapping[str, int], classes: int) -> FusionClassifier:
        return build_model(
            self.spec.method,
            dims=dims,
            classes=classes,
            width=self.config.width,
            dropout=self.config.dropout,
            method_args=self.spec.method_args,
        )

    def _loss(self, features: Features, target: Tensor) -> Tensor:
        with autocast(self.device, self.config.precision):
            logits_BC = self.model(features)
        return loss_of(logits_BC.float(), target)

    def scaled(self, loss: Tensor) -> Tensor:
        """What the backward pass starts from."""
        return loss if self._scaler is None else self._scaler.scale(loss)

    def learn(self, loss: Tensor, *, update: bool) -> None:
        """Note the loss of a batch whose gradients are there; if the step ends here, change the weights by them."""
        self._losses.append(loss)
        if update:
            self._update()
            self._step += 1
            if self._step % CHECK_EVERY == 0:
                self._check(loss)

    def _update(self) -> None:
        """The optimizer's step on the gradients gathered so far."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate()
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        if self.config.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        if self._scaler is None:
            self._optimizer.step()
        else:
            self._scaler.step(self._optimizer)  # left out where a gradient is not finite; the scale then falls
            self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            _average_in(self._average, self.model, self.config.ema, self._step)

    def predict(self, features: Features) -> Tensor:
        """The likeliest class of each question [B] int64, on the head's device; of the averaged weights, if any."""
        started = time.perf_counter()
        shown = (self._average or self.model).eval()
        with self.random.active(), torch.inference_mode(), autocast(self.device, self.config.precision):
            answers_B: Tensor = shown(features).argmax(dim=-1)
        self.seconds += time.perf_counter() - started
        return answers_B

    def end_epoch(self) -> None:
        """Close the epoch's account; the held-out score may be told afterwards."""
        loss = torch.stack(self._losses).mean()
        self._losses.clear()
        self._check(loss)
        self.history.append(Epoch(epoch=len(self.history) + 1, loss=loss.item(), lr=self._rate(), held_out=None))

    def tell_score(self, held_out: float) -> None:
        """The held-out accuracy after the last epoch; the best epoch's weights are kept where patience is set."""
        last = self.history[-1]
        self.history[-1] = Epoch(epoch=last.epoch, loss=last.loss, lr=last.lr, held_out=held_out)
        if held_out > self._best_score:
            self._best_score, self.best_epoch = held_out, last.epoch
            if self.config.patience is not None:
                shown = self._average or self.model
                self._best = {name: value.clone() for name, value in shown.state_dict().items()}

    def close(self) -> None:
        """End of training: the averaged weights, if any, and those of the best epoch where early stopping kept them."""
        if self.closed:
            return
        self.closed = True
        if self._average is not None:
            self.model.load_state_dict(self._average.state_dict())
            self._average = None
        if self._best is not None:
            self.model.load_state_dict(self._best)
            self._best = None
        else:
            self.best_epoch = len(self.history)
        self._optimizer.state.clear()
        self.model.eval()
        # The last step may have broken the weights without a loss to show it.
        self._check(torch.stack([weight.detach().sum() for weight in self.model.parameters()]).sum())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the rest of the training depends on, between two steps: tensors by name, and plain facts."""
        parts: dict[str, Mapping[str, Tensor]] = {
            "model": self.model.state_dict(),
            "average": {} if self._average is None else self._average.state_dict(),
            "best": self._best or {},
            "random": self.random.tensors(),
            "losses": {str(number): loss for number, loss in enumerate(self._losses)},
        }
        for place, moments in self._optimizer.state_dict()["state"].items():
            parts[f"optimizer.{place}"] = moments
        facts = {
            "spec": dataclasses.asdict(self.spec),
            "closed": self.closed,
            "stacked": self.stacked,
            "facts": self.facts,
            "step": self._step,
            "seconds": self.seconds,
            "history": [dataclasses.asdict(epoch) for epoch in self.history],
            "best_score": None if math.isinf(self._best_score) else self._best_score,
            "best_epoch": self.best_epoch,
            "scaler": None if self._scaler is None else self._scaler.state_dict(),
            "failure": None if self.failure is None else self.failure.as_json(),
        }
        return {f"{part}/{name}": value for part, named in parts.items() for name, value in named.items()}, facts

    def load_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from `state` of a head of the same spec and configuration."""
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = value
        self.model.load_state_dict(parts["model"])
        self.closed, self.facts = facts["closed"], dict(facts["facts"])
        self.stacked = bool(facts.get("stacked", False))
        if self.closed:
            self._average = None
        elif self._average is not None:
            self._average.load_state_dict(parts["average"])
        self._best = {name: value.to(self.device) for name, value in parts["best"].items()} if "best" in parts else None
        self.random.load(parts["random"])
        losses = parts.get("losses", {})
        self._losses = [losses[str(number)].to(self.device) for number in range(len(losses))]
        moments = {int(part.partition(".")[2]): named for part, named in parts.items() if part.startswith("optimizer.")}
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self._step, self.seconds, self.best_epoch = facts["step"], facts["seconds"], facts["best_epoch"]
        self._best_score = -math.inf if facts["best_score"] is None else facts["best_score"]
        self.history = [Epoch(**epoch) for epoch in facts["history"]]
        if self._scaler is not None and facts["scaler"] is not None:
            self._scaler.load_state_dict(facts["scaler"])
        self.failure = None if facts["failure"] is None else JobFailed(**facts["failure"])
        if self.closed:
            self.model.eval()

    def _rate(self) -> float:
        return self.spec.lr * rate_factor(
            self._step, self._steps, warmup=self.config.warmup, schedule=self.config.schedule
        )

    def _check(self, figure: Tensor) -> None:
        if self.failure is None and not bool(torch.isfinite(figure)):
            self.failure = JobFailed(
                f"The loss of {self.spec.name} is no longer finite (after {len(self.history)} epochs).",
                why="Its steps are too large, or a stored feature is not finite.",
                next=f"--lr {self.spec.lr / 3:.0e}, or --clip 1, or a longer --warmup",
            )


def loss_of(logits_BC: Tensor, target: Tensor) -> Tensor:
    """Cross entropy against classes [B]; against soft scores [B, C], binary cross entropy with logits, summed over
    the classes and averaged over the batch (as in bottom-up attention and Pythia: Teney et al., CVPR 2018,
    arXiv:1708.02711).
    """
    if target.dim() == 1:
        return functional.cross_entropy(logits_BC, target)
    return functional.binary_cross_entropy_with_logits(logits_BC, target, reduction="sum") / len(target)


def rate_factor(step: int, steps: int, *, warmup: float, schedule: str) -> float:
    """What the rate is multiplied by at a step (from 0): a linear rise over `warmup * steps`, then 1, or a half cosine
    to 0.
    """
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * min((step - rise) / max(steps - rise, 1), 1.0)))


def _frozen_copy(model: FusionClassifier) -> FusionClassifier:
    return copy.deepcopy(model).requires_grad_(False).eval()


@torch.no_grad()
def _average_in(average: FusionClassifier, model: FusionClassifier, decay: float, step: int) -> None:
    """average <- d average + (1 - d) model, with d = min(decay, (1 + step) / (10 + step)): the first steps count for
    less than the decay alone would let them (as in TensorFlow's ExponentialMovingAverage and timm).
    """
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for mine, theirs in zip(average.buffers(), model.buffers(), strict=True):
        mine.copy_(theirs)
