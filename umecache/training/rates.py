"""A learning rate for each method, chosen on a part of train: one pass for all rates.

rates = choose_rates(material, {"ume": {}}, grid, reporter)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from umecache.encoders.base import Json
from umecache.errors import JobFailed
from umecache.reporting import Reporter
from umecache.training.head import HeadSpec
from umecache.training.job import Material, one_pass


@dataclass(frozen=True, slots=True)
class Rate:
    """The learning rate chosen for a method, and the held-out accuracy (percent) of every rate tried."""

    lr: float
    tried: Mapping[float, float | None]  # None: the loss was no longer finite


def choose_rates(
    material: Material,
    methods: Mapping[str, Mapping[str, Json]],
    grid: Sequence[float],
    reporter: Reporter,
    *,
    name: str = "rates",
) -> dict[str, Rate]:
    """Each method's best rate on a part of train held out by image, with the first seed: one pass for all.

    Every rate is trained for the run's full length, so that its schedule is the one that is used later. The score is
    that of the last epoch, or of the best where heads stop early.

    Raises:
        JobFailed: no rate of the grid trains a method.
    """
    config, questions = material.config, material.questions
    index, held = questions.held_out
    specs = [
        HeadSpec(method=method, seed=config.seeds[0], lr=lr, method_args=arguments)
        for method, arguments in methods.items()
        for lr in grid
    ]
    heads, _ = one_pass(
        material, specs, index, held, reporter, name=name, label="choosing rates", answer=False, tolerant=True
    )
    chosen: dict[str, Rate] = {}
    for method in methods:
        tried = {head.spec.lr: head.held_out for head in heads if head.spec.method == method}
        scored = {lr: score for lr, score in tried.items() if score is not None}
        if not scored:
            raise JobFailed(f"No rate of {', '.join(f'{lr:g}' for lr in grid)} trains {method}.", next="--lr 1e-5")
        # The smaller of equal rates: it is the safer one on other seeds.
        chosen[method] = Rate(max(sorted(scored), key=lambda lr: scored[lr]), tried)
    return chosen
