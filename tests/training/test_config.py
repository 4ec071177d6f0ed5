"""Configurations: ranges, and the words of the flags."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from umecache.errors import UsageError
from umecache.training.config import (
    CompareConfig,
    FuseConfig,
    PretrainConfig,
    parse_grid,
    parse_lr,
    parse_pairs,
    parse_precision,
    parse_seeds,
)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("5", (0, 1, 2, 3, 4)), ("1", (0,)), ("0,1,7", (0, 1, 7)), ("0,", (0,)), ("12,", (12,)), (" 3 , 4 ", (3, 4))],
)
def test_seeds_are_a_count_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "1,x", "1.5"])
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--seeds"):
        parse_seeds(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 0),
        ("epochs", -1),
        ("width", 0),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("weight_decay", -0.1),
        ("warmup", 1.0),
        ("holdout", 0.0),
        ("holdout", 1.0),
        ("dropout", 1.0),
        ("clip", -1.0),
        ("patience", 0),
        ("limit", 0),
        ("classes", -1),
        ("min_count", 0),
        ("threads", 0),
        ("order_seed", -1),
        ("window", 0),
        ("seeds", ()),
        ("seeds", (1, 1)),
        ("seeds", (-1,)),
        ("loss", "mse"),
        ("optimizer", "sgd"),
        ("schedule", "step"),
        ("protocol", "official"),
        ("residency", "disk"),
    ],
)
def test_values_out_of_range_are_refused_by_the_flags_name(field: str, value: object) -> None:
    with pytest.raises(UsageError, match="--" + field.replace("_", "-")):
        FuseConfig(**{field: value})  # type: ignore[arg-type]


def test_scoring_on_the_training_split_is_refused() -> None:
    with pytest.raises(UsageError, match="both 'train'"):
        FuseConfig(train_split="train", eval_split="train")


def test_a_modality_has_a_plain_name() -> None:
    with pytest.raises(UsageError, match="--features a/b"):
        FuseConfig(features={"a/b": "store"})


def test_configurations_are_frozen() -> None:
    config = FuseConfig()
    with pytest.raises(FrozenInstanceError):
        config.lr = 1.0  # type: ignore[misc]


def test_compare_takes_auto_and_distinct_methods() -> None:
    assert CompareConfig(lr="auto").lr == "auto"
    with pytest.raises(UsageError, match="--methods ume,ume"):
        CompareConfig(methods=("ume", "ume"))
    with pytest.raises(UsageError, match="--methods"):
        CompareConfig(methods=())


def test_rates_in_words() -> None:
    assert parse_lr("2e-5", auto=False) == 2e-5
    assert parse_lr("auto", auto=True) == "auto"
    with pytest.raises(UsageError, match="auto is compare's"):
        parse_lr("auto", auto=False)
    assert parse_grid("1e-3,1e-4,1e-3") == (1e-4, 1e-3)
    with pytest.raises(UsageError, match="--lr-grid"):
        parse_grid("fast")


def test_pairs_keep_their_order_and_refuse_doubles() -> None:
    assert list(parse_pairs("--features", ["text=a", "audio=b=c"]).items()) == [("text", "a"), ("audio", "b=c")]
    for items in (["text"], ["=a"], ["text="], ["text=a", "text=b"]):
        with pytest.raises(UsageError, match="--features"):
            parse_pairs("--features", items)


def test_precisions_have_short_names() -> None:
    assert [parse_precision(text) for text in ("fp32", "bf16", "fp16", "float16")] == [
        "float32", "bfloat16", "float16", "float16",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="--precision"):
        FuseConfig(precision="int8")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--ema"):
        FuseConfig(ema=1.0)


def test_pre_training_takes_what_it_can() -> None:
    assert PretrainConfig(train_split="val").train_split == "val"  # no other split is looked at
    for said in ({"objectives": ()}, {"objectives": ("match", "match")}, {"objectives": ("words",)}):
        with pytest.raises(UsageError, match="--objectives"):
            PretrainConfig(**said)
    with pytest.raises(UsageError, match="--mask-share"):
        PretrainConfig(mask_share=1.5)
    with pytest.raises(UsageError, match="one seed"):
        PretrainConfig(seeds=(0, 1))
    for name, value in (("accumulate", 2), ("patience", 1), ("stack_seeds", True), ("label_limit", 9)):
        with pytest.raises(UsageError, match=f"{name} means nothing"):
            PretrainConfig(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--label-limit"):
        FuseConfig(label_limit=0)
