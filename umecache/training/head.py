"""One head in training: a fusion with its classifier, optimizer, schedule, early stopping and random state of its own.

    head = Head(HeadSpec(method="ume", seed=0, lr=1e-3), config, dims=dims, classes=1000, steps=1250, device=device)
    head.step(features, target_B)
    answers_B = head.predict(features)

Shapes: B batch, C answer classes.

Heads share nothing but the batches they are shown, so one that is trained among others ends up the same, bit for bit
on the CPU, as one that is trained alone.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from umecache.encoders.base import Json
from umecache.errors import JobFailed
from umecache.fusion.base import Features
from umecache.training.config import TrainConfig
from umecache.training.model import build_model

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One line of `history.csv`."""

    epoch: int  # from 1
    loss: float  # mean of the epoch's batches
    lr: float  # at the epoch's end
    held_out: float | None  # accuracy on the held-out part of train, in percent; None where nothing is held out


class Head:
    """See the module.

    Args:
        spec: method, seed, rate.
        config: what all heads of the run share.
        dims: modality -> width of its features.
        classes: C.
        steps: optimizer steps of the whole training, for the schedule.
        device: where it trains.

    Attributes:
        model: the FusionClassifier.
        history: one record per finished epoch.
        seconds: time of this head's own steps and predictions; on GPUs only what the host saw of it.
        failure: why it can't go on (a loss that is not finite), else None.
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
    ) -> None:
        self.spec, self.config, self.device = spec, config, device
        self.history: list[Epoch] = []
        self.seconds = 0.0
        self.failure: JobFailed | None = None
        self._random = RandomState(spec.seed, device)
        with self._random.active():
            # Drawn on the CPU, so that a seed gives the same weights on every device.
            self.model = build_model(
                spec.method,
                dims=dims,
                classes=classes,
                width=config.width,
                dropout=config.dropout,
                method_args=spec.method_args,
            ).to(device)
        self.parameters = sum(weight.numel() for weight in self.model.parameters())
        optimizer = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        fused = device.type in ("cpu", "cuda")  # one kernel for a whole step, where torch has one
        self._optimizer = optimizer(self.model.parameters(), lr=spec.lr, weight_decay=config.weight_decay, fused=fused)
        self._steps, self._step = steps, 0
        self._losses: list[Tensor] = []
        self._best: dict[str, Tensor] | None = None
        self._best_score, self.best_epoch = -math.inf, 0

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

    def step(self, features: Features, target: Tensor) -> None:
        """One optimizer step on a batch.

        Args:
            features: modality -> (tokens, mask).
            target: classes [B] int64, or soft scores [B, C].
        """
        started = time.perf_counter()
        self.model.train()
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate()
        with self._random.active():
            loss = loss_of(self.model(features), target)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        if self.config.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self._optimizer.step()
        self._losses.append(loss.detach())
        self._step += 1
        if self._step % CHECK_EVERY == 0:
            self._check(loss)
        self.seconds += time.perf_counter() - started

    def predict(self, features: Features) -> Tensor:
        """The likeliest class of each question [B] int64, on the head's device."""
        started = time.perf_counter()
        self.model.eval()
        with self._random.active(), torch.inference_mode():
            answers_B: Tensor = self.model(features).argmax(dim=-1)
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
                self._best = {name: value.clone() for name, value in self.model.state_dict().items()}

    def close(self) -> None:
        """End of training: back to the best epoch's weights where early stopping kept them."""
        if self._best is not None:
            self.model.load_state_dict(self._best)
            self._best = None
        else:
            self.best_epoch = len(self.history)
        self._optimizer.state.clear()
        self.model.eval()
        # The last step may have broken the weights without a loss to show it.
        self._check(torch.stack([weight.detach().sum() for weight in self.model.parameters()]).sum())

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


class RandomState:
    """The state of torch's random generators that belongs to one head.

    Dropout draws from torch's global generators. A head puts its own state in while it runs and takes it out after, so
    that what others draw doesn't change what it draws.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        outer = self._get()
        torch.manual_seed(seed)
        self._own = self._get()
        self._set(outer)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Inside, torch draws this head's numbers."""
        outer = self._get()
        self._set(self._own)
        try:
            yield
        finally:
            self._own = self._get()
            self._set(outer)

    def _get(self) -> tuple[Tensor, Tensor | None]:
        kind = self._device.type
        of_device = None
        if kind == "cuda":
            of_device = torch.cuda.get_rng_state(self._device)
        elif kind == "mps":
            of_device = torch.mps.get_rng_state()
        return torch.get_rng_state(), of_device

    def _set(self, state: tuple[Tensor, Tensor | None]) -> None:
        torch.set_rng_state(state[0])
        if state[1] is None:
            return
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state[1], self._device)
        else:
            torch.mps.set_rng_state(state[1])


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
