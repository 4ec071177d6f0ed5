"""Options that `extract` and `plan` read alike: which encoders, at which layers, how built."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from umecache.cli.parse import key_values, numbers, per_model
from umecache.errors import UsageError

if TYPE_CHECKING:
    from umecache.extraction.config import ModelRequest

FORMATS = ("zarr", "hdf5")
DTYPES = ("float16", "float32", "bfloat16", "int8")
PRECISIONS = ("float32", "bfloat16", "float16")


def model_requests(
    models: list[str],
    *,
    weights: list[str] | None,
    layers: str,
    model_arg: list[str] | None,
    image_size: int | None,
    mean: str | None,
    std: str | None,
    crop: bool,
    max_length: int | None,
) -> tuple[ModelRequest, ...]:
    """One request per `--model`."""
    from umecache.encoders.base import EncoderOptions
    from umecache.extraction.config import ModelRequest

    weights_of = per_model(weights, models, flag="--weights")
    wanted = layers_of(layers)
    return tuple(
        ModelRequest(
            name=name,
            options=EncoderOptions(
                weights=weights_of[index],
                layers="last" if wanted == ("all",) else wanted[0],
                model_args=_arguments_of(name, models, model_arg),
                image_size=image_size,
                mean=numbers(mean, flag="--mean"),
                std=numbers(std, flag="--std"),
                crop=crop,
                max_length=max_length,
            ),
            layers=wanted,
        )
        for index, name in enumerate(models)
    )


def check_choices(*, store_format: str, dtype: str, precision: str) -> None:
    """Refuse words that an option does not know.

    Raises:
        UsageError: says which it knows.
    """
    for flag, value, allowed in (
        ("--format", store_format, FORMATS),
        ("--dtype", dtype, DTYPES),
        ("--precision", precision, PRECISIONS),
    ):
        if value not in allowed:
            raise UsageError(f"{flag} {value!r} is not one of {', '.join(allowed)}.", next="umecache extract --help")


def layers_of(text: str) -> tuple[str, ...]:
    """`last`, `-1,-4` or `all`; names once each."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if found == ("all",) or all(re.fullmatch(r"last|-[1-9]\d{0,3}", part) for part in found):
        return found
    raise UsageError(
        f"--layers {text!r} can't be read.",
        why="It takes 'last', 'all', or numbers counted from the end.",
        next="--layers last,-4",
    )


def batch_size_of(text: str) -> int | None:
    """`auto` is None."""
    if text == "auto":
        return None
    if text.isdigit():
        return int(text)
    raise UsageError(f"--batch-size {text!r} can't be read.", why="It takes a number or auto.", next="--batch-size 32")


def _arguments_of(name: str, models: list[str], pairs: list[str] | None) -> dict[str, Any]:
    """The `--model-arg`s meant for one model: those without a prefix, and those with its own."""
    mine = []
    for pair in pairs or ():
        owner = next((other for other in models if pair.startswith(f"{other}:")), None)
        if owner in (None, name):
            mine.append(pair.removeprefix(f"{name}:"))
    return key_values(mine, flag="--model-arg")
