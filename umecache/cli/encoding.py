"""Options that `extract` and `plan` take alike: which encoders, at which layers, how built, over which inputs.

config = config_of(["vit"], weights=["vit=random"], model_arg=["depth=2"], batch_size="auto", layers="-1,-4")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from umecache.cli import completing
from umecache.cli.parse import key_values, names, numbers, per_model
from umecache.errors import UsageError

if TYPE_CHECKING:
    from umecache.extraction.config import ExtractConfig

Model = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="Encoder to run, as `umecache models` lists them; repeatable.",
        autocompletion=completing.model,
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="All encoders of a recipe: thesis-a, thesis-b, or a TOML file; flags win over it.",
        autocompletion=completing.recipe,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(help="A folder, or a name under UMECACHE_HOME/data. Default: vqa-v2.", autocompletion=completing.data),
]
Split = Annotated[
    str | None, typer.Option(help="Splits, comma-separated. Default: train,val.", autocompletion=completing.splits)
]
Store = Annotated[
    Path | None, typer.Option(help="Folder for the stores of one model. Default: below UMECACHE_HOME/stores.")
]
Dtype = Annotated[str, typer.Option(help="Stored values: float16, float32, bfloat16, int8.")]
Precision = Annotated[str, typer.Option(help="Encoder arithmetic: float32, bfloat16, float16.")]
Weights = Annotated[
    list[str] | None, typer.Option(help="Checkpoint file or folder, or 'random'; per model: MODEL=PATH.")
]
Layers = Annotated[
    str, typer.Option(help="'last' (after the final norm), indices such as -1,-4, or 'all'; a store for each.")
]
ModelArg = Annotated[
    list[str] | None,
    typer.Option(
        help="For the model's configuration, such as pad_type=same; with several models MODEL:KEY=VALUE; repeatable."
    ),
]
ImageSize = Annotated[int | None, typer.Option(help="Pixels. Default: the model's own.")]
Channels = Annotated[str | None, typer.Option(help="Per channel, for pixels in 0..1.")]
Crop = Annotated[bool, typer.Option("--crop", help="The model's own resize and crop, not the whole image.")]
MaxLength = Annotated[int | None, typer.Option(help="Text tokens kept. Default: the model's limit.")]
BatchSize = Annotated[str, typer.Option(help="Records, or auto.")]
Workers = Annotated[int | None, typer.Option(help="Threads that read and decode. Default: by the cores.")]
Limit = Annotated[int | None, typer.Option(help="First N questions of each split, and their images.")]


def config_of(
    models: list[str] | None,
    *,
    recipe: str | None = None,
    weights: list[str] | None = None,
    model_arg: list[str] | None = None,
    split: str | None = None,
    mean: str | None = None,
    std: str | None = None,
    batch_size: str = "auto",
    **said: Any,
) -> ExtractConfig:
    """Options as they are typed, made into a configuration; those that need no reading pass as they are.

    Raises:
        UsageError: an option that can't be read.
    """
    from umecache.api.settings import extract_config
    from umecache.training.recipe import load_recipe

    models = list(models or ()) or list(load_recipe(recipe).models if recipe else ())
    return extract_config(
        models,
        recipe=recipe,
        weights=per_model(weights, models, flag="--weights"),
        model_args=_arguments(models, model_arg),
        split=names(split, flag="--split"),
        mean=numbers(mean, flag="--mean"),
        std=numbers(std, flag="--std"),
        batch_size=batch_size_of(batch_size),
        **said,
    )


def batch_size_of(text: str) -> int | None:
    """`auto` is None."""
    if text == "auto":
        return None
    if text.isdigit():
        return int(text)
    raise UsageError(f"--batch-size {text!r} can't be read.", why="It takes a number or auto.", next="--batch-size 32")


def _arguments(models: list[str], pairs: list[str] | None) -> dict[str, Any]:
    """`KEY=VALUE` for all models, and model -> what `MODEL:KEY=VALUE` says for one."""
    owners = [next((model for model in models if pair.startswith(f"{model}:")), None) for pair in pairs or ()]
    said = key_values([p for p, owner in zip(pairs or (), owners, strict=True) if owner is None], flag="--model-arg")
    for owner in dict.fromkeys(owner for owner in owners if owner is not None):
        own = [pair.removeprefix(f"{owner}:") for pair, its in zip(pairs or (), owners, strict=True) if its == owner]
        said[owner] = key_values(own, flag="--model-arg")
    return said
