"""What a fusion run is asked to do: typed, frozen, checked once.

    FuseConfig(data="easy-vqa", text="minilm", image="mobilenetv2", method="ume", seeds=(0, 1, 2))
    CompareConfig(data="easy-vqa", methods=("text-only", "concat", "ume"), lr="auto", seeds=(0, 1, 2))

Every field is a flag of the same name (`docs/fuse.md` says why the defaults are what they are).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from umecache.encoders.base import Json
from umecache.errors import UsageError

Loss = Literal["ce", "soft"]
OptimizerName = Literal["adam", "adamw"]
Schedule = Literal["constant", "cosine"]
Protocol = Literal["official-2021", "official-2016", "thesis"]
Precision = Literal["float32", "bfloat16", "float16"]
Residency = Literal["auto", "device", "memory", "store"]
Order = Literal["auto", "full", "window"]

LR_GRID = (1e-4, 3e-4, 1e-3, 3e-3)
"""The rates that `--lr auto` tries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The fields that `fuse` and `compare` share."""

    data: str | None = None  # a data folder, or a name under UMECACHE_HOME/data; None: vqa-v2
    features: Mapping[str, str] = field(default_factory=dict)  # modality name -> store, beside or instead of text/image
    facts: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)  # modality -> what its stores must declare
    train_split: str = "train"
    eval_split: str = "val"
    limit: int | None = None  # the first N questions of each split, and their images
    label_limit: int | None = None  # so many questions of train, drawn by `order_seed`, have answers; None: all
    init: str | None = None  # a run of `umecache pretrain` whose fusion heads start from; None: from their seeds
    shuffle_images: bool = False  # a negative control: every question sees another question's image
    order: Order = "auto"  # "full": all questions shuffled; "window": images, then questions inside a window of them
    window: int = 1024  # images whose questions are shuffled together: 0.9 GB of ViT-B/16 at 384 px
    order_seed: int = 0  # of the order of batches and of the held-out part: shared by all heads
    seeds: tuple[int, ...] = (0,)  # of initialisation and dropout, one trained head each
    stack_seeds: bool = False  # heads of one method share their passes: the same within rounding, not bit for bit

    classes: int = 3129  # the most frequent train answers; 0: all that `min_count` leaves
    min_count: int | None = None  # answers seen at least so often in train
    loss: Loss = "ce"  # "ce": the most common answer; "soft": the official soft scores of all ten answers

    optimizer: OptimizerName = "adamw"
    weight_decay: float = 0.01
    schedule: Schedule = "cosine"
    warmup: float = 0.1  # share of all steps in which the rate rises from 0
    clip: float = 1.0  # largest norm of a step's gradient; 0: no limit
    batch_size: int = 64  # questions
    accumulate: int = 1  # batches whose gradients make one step
    ema: float = 0.0  # decay of the running average of weights that answers; 0: the weights themselves
    precision: Precision = "float32"  # of the arithmetic; weights and optimizer stay float32
    epochs: int = 10
    holdout: float = 0.1  # share of train's images kept back for early stopping and for `lr="auto"`
    patience: int | None = None  # epochs without a better held-out score before a head stops; None: no early stopping
    width: int = 256  # K, the common width that modalities are projected to
    dropout: float = 0.1

    protocol: Protocol = "official-2021"  # of scoring
    residency: Residency = "auto"  # where features stay between epochs
    device: str = "auto"  # "auto", "cpu", or the number of a GPU
    threads: int | None = None  # of torch on the CPU; None: leave them as they are
    checkpoint_minutes: float = 5.0  # between two checkpoints, from which a stopped run goes on; 0: none
    tracker: str | None = None  # "tensorboard", "wandb"; None: none
    out: str | None = None  # the run folder; None: a new one under UMECACHE_HOME/runs
    overwrite: bool = False  # replace an existing `out`

    def __post_init__(self) -> None:
        _choice("loss", self.loss, get_args(Loss))
        _choice("optimizer", self.optimizer, get_args(OptimizerName))
        _choice("schedule", self.schedule, get_args(Schedule))
        _choice("protocol", self.protocol, get_args(Protocol))
        _choice("order", self.order, get_args(Order))
        _choice("residency", self.residency, get_args(Residency))
        _choice("precision", self.precision, get_args(Precision))
        for name in ("batch_size", "accumulate", "epochs", "width", "window"):
            _positive(name, getattr(self, name))
        for name in ("limit", "label_limit", "min_count", "patience", "threads"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))
        if self.classes < 0:
            raise UsageError(f"--classes {self.classes}: give a whole number, 0 for all.")
        _range("clip", self.clip, 0.0, math.inf)
        _range("weight_decay", self.weight_decay, 0.0, math.inf)
        _range("ema", self.ema, 0.0, 1.0, open_high=True)
        _range("checkpoint_minutes", self.checkpoint_minutes, 0.0, math.inf)
        _range("warmup", self.warmup, 0.0, 1.0, open_high=True)
        _range("holdout", self.holdout, 0.0, 1.0, open_low=True, open_high=True)
        _range("dropout", self.dropout, 0.0, 1.0, open_high=True)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise UsageError(
                f"--seeds {_listed(self.seeds)}: seeds are different whole numbers from 0.", next=SEEDS_HELP
            )
        if self.order_seed < 0:
            raise UsageError(f"--order-seed {self.order_seed}: give a whole number from 0.")
        if self.train_split == self.eval_split:
            raise UsageError(
                f"--train-split and --eval-split are both {self.train_split!r}.",
                why="An accuracy on the questions that a head was trained on says nothing.",
                next="umecache data split DIR --by image --fraction 0.1 makes a held-out split",
            )
        for name in self.features:
            if not name.isidentifier():
                raise UsageError(f"--features {name}=...: a modality's name is a plain word such as 'audio'.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseConfig(TrainConfig):
    """One method."""

    text: str | None = None  # a store, a folder with splits inside, or a model's short name; None: the only one
    image: str | None = None
    method: str = "ume"
    method_args: Mapping[str, Json] = field(default_factory=dict)
    lr: float | tuple[float, ...] = 1e-3  # several: a row for each

    def __post_init__(self) -> None:
        # slots=True makes a new class, which zero-argument super() does not know.
        TrainConfig.__post_init__(self)
        for rate in self.rates:
            _check_lr(rate)

    @property
    def rates(self) -> tuple[float, ...]:
        """The rates to train with."""
        return self.lr if isinstance(self.lr, tuple) else (self.lr,)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareConfig(TrainConfig):
    """Many methods in one read of the stores; several text or image stores: one table over every pair."""

    text: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[str, ...] = ("text-only", "image-only", "concat", "product", "attention", "evc", "ume", "ume-res")
    method_args: Mapping[str, Json] = field(default_factory=dict)  # KEY for all that take it, METHOD.KEY for one
    lr: float | tuple[float, ...] | Literal["auto"] = 1e-3  # several: a row for each
    lr_grid: tuple[float, ...] = LR_GRID  # tried by lr="auto"
    ray: str | None = None  # HOST:PORT of a Ray cluster, or "auto": cells are spread over its nodes; None: here
    update: bool = False  # of the comparison in `out`, train only the heads that it lacks, and take its place
    recipe: str | None = None  # whose figures the report prints beside ours

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        for rate in (*self.rates, *self.lr_grid):
            _check_lr(rate)
        if self.update and (self.out is None or self.overwrite):
            raise UsageError(
                "--update goes on from the comparison in --out, and never with --overwrite.",
                next="umecache compare ... --update --out DIR",
            )
        if self.ray is not None and not (self.device in ("auto", "cpu") and self.ray):
            raise UsageError(
                f"--ray takes --devices auto or cpu, not {self.device}.",
                why="It spreads over the devices of a cluster.",
            )
        if not self.methods or len(set(self.methods)) != len(self.methods):
            raise UsageError(f"--methods {_listed(self.methods)}: name different methods.", next="umecache methods")

    @property
    def rates(self) -> tuple[float, ...]:
        """The rates that are said; none where each method takes its own."""
        if isinstance(self.lr, tuple):
            return self.lr
        return () if self.lr == "auto" else (self.lr,)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig(TrainConfig):
    """One method, without answers: shared fields about answers and scoring don't matter, those about early stopping,
    accumulation and stacked seeds are refused."""

    eval_split: str = ""  # none is looked at
    text: str | None = None
    image: str | None = None
    method: str = "ume"
    method_args: Mapping[str, Json] = field(default_factory=dict)
    lr: float = 1e-3
    objectives: tuple[str, ...] = ("match", "mask")
    mask_share: float = 0.15  # of a hidden modality's tokens, as in BERT, LXMERT and UNITER

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        _check_lr(self.lr)
        _range("mask_share", self.mask_share, 0.0, 1.0)
        if not self.objectives or len(set(self.objectives)) != len(self.objectives):
            raise UsageError(f"--objectives {_listed(self.objectives)}: name match, mask or both.")
        for name in self.objectives:
            _choice("objectives", name, ("match", "mask"))
        if len(self.seeds) != 1:
            raise UsageError("Pre-training takes one seed.", next="one run for each seed")
        for name, nothing in (("accumulate", 1), ("patience", None), ("stack_seeds", False), ("label_limit", None)):
            if getattr(self, name) != nothing:
                raise UsageError(f"{name} means nothing in pre-training.", next=f"leave out {name}")


SEEDS_HELP = "--seeds 5 (that many: 0 to 4), --seeds 0,1,7 (these), --seeds 0, (one)"


def parse_seeds(text: str) -> tuple[int, ...]:
    """`5` is that many (0 to 4); `0,1,7` are these; `0,` is one.

    Raises:
        UsageError: something else.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        if len(parts) == 1:
            count = int(parts[0])
            if count < 1:
                raise ValueError
            return tuple(range(count))
        return tuple(int(part) for part in parts if part)
    except ValueError:
        raise UsageError(f"--seeds {text!r} is neither a count nor a list of seeds.", next=SEEDS_HELP) from None


def parse_pairs(flag: str, items: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` items of a repeatable flag, in order.

    Raises:
        UsageError: an item without `=`, or a key said twice.
    """
    pairs: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not (key and equals and value):
            raise UsageError(f"{flag} {item!r} is not of the form KEY=VALUE.")
        if key in pairs:
            raise UsageError(f"{flag} says {key!r} twice.")
        pairs[key] = value
    return pairs


def parse_lr(text: str, *, auto: bool) -> float | tuple[float, ...] | Literal["auto"]:
    """A rate, several, or `auto` where that is allowed (`compare`)."""
    if text == "auto" and auto:
        return "auto"
    try:
        rates = tuple(sorted({float(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        rates = ()
    if not rates:
        allowed = "rates such as 1e-3 or 1e-4,1e-3" + (", or auto" if auto else " (auto is compare's)")
        raise UsageError(f"--lr {text!r}: give {allowed}.")
    return rates[0] if len(rates) == 1 else rates


def parse_precision(text: str) -> str:
    """`bf16` as `bfloat16`, and likewise; what is unknown is for the configuration to refuse."""
    return {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}.get(text, text)


def parse_grid(text: str) -> tuple[float, ...]:
    """`1e-4,3e-4,1e-3` as rates in rising order."""
    try:
        return tuple(sorted({float(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        raise UsageError(f"--lr-grid {text!r}: give rates such as 1e-4,3e-4,1e-3.") from None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _listed(values: Iterable[object]) -> str:
    return ",".join(str(value) for value in values)


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{_flag(name)} {value!r} is unknown.", why=f"Allowed: {', '.join(allowed)}.")


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{_flag(name)} {value}: give a whole number from 1.")


def _range(
    name: str, value: float, low: float, high: float, *, open_low: bool = False, open_high: bool = False
) -> None:
    below = value <= low if open_low else value < low
    above = value >= high if open_high else value > high
    if below or above or not math.isfinite(value):
        lower = "above" if open_low else "at least"
        upper = f" and {'below' if open_high else 'at most'} {high:g}" if math.isfinite(high) else ""
        raise UsageError(f"{_flag(name)} {value:g}: give a number {lower} {low:g}{upper}.")


def _check_lr(rate: float) -> None:
    if not 0.0 < rate <= 10.0:
        raise UsageError(f"--lr {rate:g}: give a rate above 0 and at most 10, such as 1e-3.")
