"""The training loop: each batch is read once and fed to every head.

    train(heads, reader, targets, index, config=config, held=held_index)
    answers_HQ = predict(heads, reader, index, batch_size=64)

Shapes: H heads, Q questions. `index` counts questions of the reader's split in file order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from umecache.reporting import Reporter, Silent
from umecache.training.batches import Batch, FeatureReader, batches
from umecache.training.checkpoint import Keeper
from umecache.training.config import TrainConfig
from umecache.training.head import Head
from umecache.training.order import epoch_order
from umecache.training.stack import Steps
from umecache.training.targets import Index, Targets


def train(
    heads: Sequence[Head],
    reader: FeatureReader,
    targets: Targets,
    index: Index,
    *,
    config: TrainConfig,
    held: Index | None = None,
    reporter: Reporter | None = None,
    label: str = "training",
    tolerant: bool = False,
    images: Index | None = None,
    keeper: Keeper | None = None,
    told: Callable[[Head, int], None] | None = None,
) -> None:
    """Train all heads on the questions of `index`, in one pass per epoch.

    Args:
        heads: fresh heads; they end trained, in eval mode.
        reader, targets: features and answers of the split.
        index: the questions to train on; every one has a known answer.
        config: batch size, epochs, order seed, loss, whether seeds are stacked.
        held: questions scored after each epoch, for early stopping and for choosing rates; None: none.
        reporter, label: progress.
        tolerant: a head whose loss is not finite is left behind instead of stopping the job.
        images: the image of each question of the split, for an order by windows of images; None: a full shuffle.
        keeper: the checkpoint to go on from and to keep; None: nothing is kept.
        told: hears of each head's epochs (from 0) as they end.

    Raises:
        JobFailed: a loss that is not finite, with the head's name.
    """
    keeper = keeper or Keeper(None, math.inf)
    per_epoch = math.ceil(len(index) / config.batch_size)
    first, done = keeper.restore(heads)
    steps = Steps(stack=config.stack_seeds, reporter=reporter)
    with (reporter or Silent()).task(label, per_epoch * config.epochs, "batches") as task:
        task.advance(per_epoch * first + math.ceil(done / config.batch_size))
        for epoch in range(first, config.epochs):
            running = [head for head in heads if not head.finished]
            if not running:
                break
            order = epoch_order(index, order_seed=config.order_seed, epoch=epoch, images=images, window=config.window)
            group = config.batch_size * config.accumulate  # questions of one step
            for batch in batches(reader, order[done:], batch_size=config.batch_size):
                target = target_of(batch, targets, config.loss, reader.device)
                start = done // group * group
                done += len(batch.index)
                share = len(batch.index) / (min(start + group, len(order)) - start)
                update = done % group == 0 or done == len(order)
                steps(running, batch.features, target, weight=share, update=update)
                running = _without_failures(running, tolerant, keeper)
                task.advance(1, epoch=epoch + 1, heads=len(running))
                if update and keeper.due():
                    keeper.save(heads, epoch, done)
            done = 0
            for head in running:
                head.end_epoch()
            running = _without_failures(running, tolerant, keeper)
            if held is not None and running:
                answers_HQ = predict(running, reader, held, batch_size=config.batch_size)
                for head, answers_Q in zip(running, answers_HQ, strict=True):
                    head.tell_score(targets.accuracy(held, answers_Q))
            if told is not None:
                for head in running:
                    told(head, epoch)
    for head in heads:
        head.close()
    _without_failures(heads, tolerant, keeper)


def predict(heads: Sequence[Head], reader: FeatureReader, index: Index, *, batch_size: int) -> Index:
    """Each head's class for each question [H, Q], in one pass. What fits in training fits here: no gradients."""
    answers_HQ = np.empty((len(heads), len(index)), dtype=np.int64)
    done = 0
    for batch in batches(reader, index, batch_size=batch_size):
        end = done + len(batch.index)
        for row, head in enumerate(heads):
            answers_HQ[row, done:end] = head.predict(batch.features).cpu().numpy()
        done = end
    return answers_HQ


def target_of(batch: Batch, targets: Targets, loss: str, device: torch.device) -> torch.Tensor:
    """The batch's classes [B], or its soft scores [B, C]."""
    return (targets.soft if loss == "soft" else targets.hard)(batch.index).to(device)


def _without_failures(heads: Sequence[Head], tolerant: bool, keeper: Keeper) -> list[Head]:
    for head in heads:
        if head.failure is not None and not tolerant:
            keeper.drop()  # going on from there would end here again
            raise head.failure
    return [head for head in heads if head.failure is None]
