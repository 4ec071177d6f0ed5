"""Heads of one method stepped as one: their weights stacked, one forward and one backward pass for all of them.

    steps = Steps(stack=config.stack_seeds, reporter=reporter)
    steps(running, features, target, weight=1.0, update=True)      # as `head.step` for each head

Shapes: S stacked heads, B batch.

A head's weights become views into the stack, and so do its gradients: its own optimizer, clipping, average, early
stopping and checkpoint go on as if it were alone. What changes is the arithmetic of the two passes (`torch.vmap` over
`torch.func.functional_call`): many small kernels become fewer larger ones, which pays where launching them is what
takes time, as on a GPU, or on a CPU with many seeds of a narrow head. Losses agree with those of heads alone within
rounding; dropout draws one mask per head from the first one's random state, so with dropout the numbers are others.
"""

from __future__ import annotations

import copy
import json
import time
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from umecache.extraction.devices import autocast
from umecache.fusion.base import Features
from umecache.reporting import Reporter, Silent
from umecache.training.head import Head, loss_of


class Stack:
    """Running heads of one method and one set of arguments; rates may differ.

    Attributes:
        heads: whose weights are views into the stack, as long as it lives and after.
        works: a step was made. The first one raises RuntimeError, or UserWarning, and changes nothing, where the method
            has an operation that can't be batched.
    """

    def __init__(self, heads: Sequence[Head]) -> None:
        self.heads = tuple(heads)
        first = self.heads[0]
        self.works = False
        self._model = copy.deepcopy(first.model)  # the structure: what a forward pass notes down stays in here
        models = [head.model for head in self.heads]
        self._weights, self._buffers = stack_module_state(models)
        for row, model in enumerate(models):
            for named, stacked in ((model.named_parameters(), self._weights), (model.named_buffers(), self._buffers)):
                for name, tensor in named:
                    tensor.data = stacked[name].data[row]

    def step(self, features: Features, target: Tensor, *, weight: float, update: bool) -> None:
        """`Head.step` of every head."""
        started = time.perf_counter()
        self._model.train()
        losses_S = self._passes(features, target, weight) if self.works else self._try(features, target, weight)
        for row, (head, loss) in enumerate(zip(self.heads, losses_S, strict=True)):
            if update:
                for name, one in head.model.named_parameters():
                    gradient = self._weights[name].grad
                    one.grad = None if gradient is None else gradient[row]
            head.learn(loss, update=update)
        if update:
            for stacked in self._weights.values():
                stacked.grad = None
        for head in self.heads:
            head.stacked = True
            head.seconds += (time.perf_counter() - started) / len(self.heads)

    def _passes(self, features: Features, target: Tensor, weight: float) -> Tensor:
        """Losses [S]; gradients are added to those of the stack."""
        first = self.heads[0]

        def loss_of_one(weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            with autocast(first.device, first.config.precision):
                logits_BC = functional_call(self._model, (weights, buffers), (features,))
            return loss_of(logits_BC.float(), target)

        with first.random.active():
            losses_S: Tensor = torch.vmap(loss_of_one, randomness="different")(self._weights, self._buffers)
            scaled = torch.stack([head.scaled(loss) for head, loss in zip(self.heads, losses_S, strict=True)])
            (scaled if weight == 1.0 else weight * scaled).sum().backward()  # type: ignore[no-untyped-call]
        return losses_S.detach()

    def _try(self, features: Features, target: Tensor, weight: float) -> Tensor:
        """The first time: an operation without a rule for batches raises, be it slow only or impossible."""
        random = self.heads[0].random
        before = {name: state.clone() for name, state in random.tensors().items()}
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message=".*batching rule.*")
                losses_S = self._passes(features, target, weight)
        except BaseException:
            random.load(before)
            raise
        self.works = True
        return losses_S


class Steps:
    """One step of every running head, those of one method stacked where that is asked for and can be done.

    Args:
        stack: whether to stack.
        reporter: hears which methods are not.
    """

    def __init__(self, *, stack: bool, reporter: Reporter | None = None) -> None:
        self._stack, self._reporter = stack, reporter or Silent()
        self._stacks: dict[str, Stack] = {}
        self._alone: set[str] = set()  # methods that can't be stacked

    def __call__(
        self, heads: Sequence[Head], features: Features, target: Tensor, *, weight: float, update: bool
    ) -> None:
        groups: dict[str, list[Head]] = {}
        for head in heads:
            kind = json.dumps([head.spec.method, dict(head.spec.method_args)], sort_keys=True)
            groups.setdefault(kind, []).append(head)
        for kind, group in groups.items():
            stacked = self._stack and len(group) > 1 and kind not in self._alone
            if not (stacked and self._together(kind, group, features, target, weight, update)):
                for head in group:
                    head.step(features, target, weight=weight, update=update)

    def _together(
        self, kind: str, group: Sequence[Head], features: Features, target: Tensor, weight: float, update: bool
    ) -> bool:
        stack = self._stacks.get(kind)
        if stack is None or stack.heads != tuple(group):  # at first, and where a head has stopped early
            stack = self._stacks[kind] = Stack(group)
        try:
            stack.step(features, target, weight=weight, update=update)
        except (RuntimeError, UserWarning) as error:
            if isinstance(error, torch.OutOfMemoryError) or stack.works:
                raise
            why = str(error).strip().splitlines()[0]
            self._reporter.say(f"{group[0].spec.method} can't be stacked, its seeds are trained one by one: {why}")
            self._alone.add(kind)
            del self._stacks[kind]
            return False
        return True
