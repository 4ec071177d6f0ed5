"""What can be said to `umecache.extract`, `fuse` and `compare`: the commands' options as typed keyword arguments.

    config = extract_config(["minilm", "vit"], data="vqa-v2", weights={"vit": "../vit.safetensors"}, layers=(-1, -4))
    config = fuse_settings({"method": "ume", "text": open_store("stores/minilm-056b7fa6/train"), "seeds": 3})

Names and defaults are the commands' (`umecache fuse --help`); what is None is not said, so that a recipe or the default
decides. `--method-arg KEY=VALUE` and `--model-arg`, which a command line repeats, are mappings here: `method_args`,
`model_args`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from umecache.encoders.base import EncoderOptions, Json
from umecache.errors import UsageError
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.training.config import CompareConfig, FuseConfig, parse_seeds
from umecache.training.recipe import compare_config, fuse_config, load_recipe
from umecache.training.refs import StoreRef, store_ref

File = str | PathLike[str]

_OF_ENCODERS = ("weights", "layers", "model_args", "image_size", "mean", "std", "crop", "max_length")


class ExtractSettings(TypedDict, total=False):
    """The options of `umecache extract` (and `plan`) but `--model`."""

    recipe: str | None  # whose encoders are run, at its image size, where nothing else is said
    data: File | None
    split: str | Sequence[str] | None  # default: train and val
    store: File | None  # the folder for the stores of one model
    format: str
    dtype: str  # of stored values
    precision: Literal["float32", "bfloat16", "float16"]  # of the encoder's arithmetic
    weights: File | Sequence[File | None] | Mapping[str, File] | None  # for all models, one each, or by model
    layers: str | int | Sequence[str | int]  # "last", "all", or counted from the end: (-1, -4)
    model_args: Mapping[str, Any] | None  # for all models, or model -> its own
    image_size: int | None  # pixels
    mean: float | Sequence[float] | None  # per channel, for pixels in 0..1
    std: float | Sequence[float] | None
    crop: bool
    max_length: int | None  # text tokens
    batch_size: int | Literal["auto"] | None  # records
    devices: str
    workers: int | None  # threads that read and decode
    shard_records: int | None
    limit: int | None  # first questions of each split
    compile: bool
    channels_last: bool
    retry_failed: bool
    ignore_space: bool
    log: File | None
    tracker: str | None


class TrainSettings(TypedDict, total=False):
    """The options that `umecache fuse` and `compare` share; `umecache.training.config.TrainConfig` has the defaults."""

    data: File | None
    features: Mapping[str, StoreRef] | None  # modality -> its store
    train_split: str | None
    eval_split: str | None
    init: File | None
    label_limit: int | None
    stack_seeds: bool | None
    shuffle_images: bool | None
    order: Literal["auto", "full", "window"] | None
    window: int | None  # images
    order_seed: int | None
    seeds: int | Sequence[int] | None  # that many, or these
    epochs: int | None
    schedule: Literal["constant", "cosine"] | None
    warmup: float | None  # share of steps
    optimizer: Literal["adam", "adamw"] | None
    weight_decay: float | None
    clip: float | None
    batch_size: int | None  # questions
    accumulate: int | None
    ema: float | None
    precision: Literal["float32", "bfloat16", "float16"] | None
    classes: int | None
    min_count: int | None
    loss: Literal["ce", "soft"] | None
    width: int | None
    dropout: float | None
    patience: int | None  # epochs
    holdout: float | None  # share of train's images
    recipe: File | None
    limit: int | None  # first questions of each split
    protocol: Literal["official-2021", "official-2016", "thesis"] | None
    devices: str | None
    threads: int | None
    residency: Literal["auto", "device", "memory", "store"] | None
    checkpoint_minutes: float | None
    tracker: str | None
    out: File | None
    overwrite: bool | None


class FuseSettings(TrainSettings, total=False):
    """The options of `umecache fuse`."""

    method: str | None
    method_args: Mapping[str, Json] | None
    text: StoreRef | None
    image: StoreRef | None
    lr: float | Sequence[float] | None


class CompareSettings(TrainSettings, total=False):
    """The options of `umecache compare` but `--baseline`."""

    methods: Sequence[str] | None
    method_args: Mapping[str, Json] | None  # KEY for all that take it, "METHOD.KEY" for one
    text: StoreRef | Sequence[StoreRef] | None
    image: StoreRef | Sequence[StoreRef] | None
    lr: float | Sequence[float] | Literal["auto"] | None
    lr_grid: Sequence[float] | None
    ray: str | None  # HOST:PORT of a cluster, or "auto"
    update: bool | None


def extract_config(model: str | Sequence[str] | None = None, **settings: Unpack[ExtractSettings]) -> ExtractConfig:
    """The configuration of stage one.

    Raises:
        UsageError: no encoder, an option that there is not, or a value that it can't take.
    """
    said = _said(settings, ExtractSettings, "extract")
    models = (model,) if isinstance(model, str) else tuple(model or ())
    if (ref := said.pop("recipe", None)) is not None:
        recipe = load_recipe(ref)
        models = models or recipe.models
        if recipe.image_size is not None:
            said.setdefault("image_size", recipe.image_size)
        if not models:
            raise UsageError(f"The recipe {ref!r} names no encoders.", next="--model NAME; umecache models lists them")
    if not models:
        raise UsageError(
            "Neither --model nor --recipe says which encoders.",
            next="--model NAME (umecache models lists them); umecache extract --help",
        )
    requests = _requests(models, {name: said.pop(name) for name in _OF_ENCODERS if name in said})
    for name, field in (("split", "splits"), ("devices", "device")):
        if name in said:
            said[field] = said.pop(name)
    if "splits" in said:
        said["splits"] = _several(said["splits"])
    for name in ("store", "log"):
        if name in said:
            said[name] = Path(said[name])
    if "data" in said:
        said["data"] = fspath(said["data"])
    if said.get("batch_size") == "auto":
        del said["batch_size"]
    return ExtractConfig(models=requests, **said)


def fuse_settings(settings: FuseSettings) -> FuseConfig:
    """The configuration of `fuse`: defaults, then the recipe, then what is said.

    Raises:
        UsageError: an option that there is not, or a value that it can't take.
    """
    said = _train(_said(settings, FuseSettings, "fuse"))
    for name in ("text", "image"):
        if name in said:
            said[name] = store_ref(said[name])
    return fuse_config(said.pop("recipe", None), said)


def compare_settings(settings: CompareSettings) -> CompareConfig:
    """The configuration of `compare`, likewise; a single store stands for a list of one."""
    said = _train(_said(settings, CompareSettings, "compare"))
    for name in ("text", "image"):
        if name in said:
            several = isinstance(said[name], Sequence) and not isinstance(said[name], str)
            said[name] = tuple(store_ref(each) for each in (said[name] if several else [said[name]]))
    for name in ("methods", "lr_grid"):
        if name in said:
            said[name] = _several(said[name])
    return compare_config(said.pop("recipe", None), said)


def layers_of(layers: str | int | Sequence[str | int]) -> tuple[str, ...]:
    """`last`, `-1,-4`, `all` or (-1, -4) as names, once each.

    Raises:
        UsageError: something else.
    """
    parts = layers.split(",") if isinstance(layers, str) else [layers] if isinstance(layers, int) else layers
    found = tuple(dict.fromkeys(str(part).strip() for part in parts))
    if found == ("all",) or (found and all(re.fullmatch(r"last|-[1-9]\d{0,3}", part) for part in found)):
        return found
    raise UsageError(
        f"--layers {layers!r} can't be read.",
        why="It takes 'last', 'all', or numbers counted from the end.",
        next="--layers last,-4",
    )


def _said(settings: Mapping[str, Any], kind: type, command: str) -> dict[str, Any]:
    """What is not None; refuses names that the command has no option for."""
    known = kind.__annotations__
    for name in settings:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise UsageError(
                f"umecache.{command} takes no {name!r}.",
                why=f"Did you mean {close[0]!r}?" if close else f"It takes {', '.join(sorted(known))}.",
                next=f"help(umecache.{command})",
            )
    return {name: value for name, value in settings.items() if value is not None}


def _train(said: dict[str, Any]) -> dict[str, Any]:
    """What `fuse` and `compare` say alike, as their configurations hold it."""
    if "devices" in said:
        said["device"] = said.pop("devices")
    for name in ("data", "init", "out", "recipe"):
        if name in said:
            said[name] = fspath(said[name])
    if "features" in said:
        said["features"] = {name: store_ref(store) for name, store in said["features"].items()}
    if isinstance(said.get("seeds"), int):
        said["seeds"] = parse_seeds(str(said["seeds"]))
    elif "seeds" in said:
        said["seeds"] = tuple(said["seeds"])
    if "lr" in said and not isinstance(said["lr"], float | int | str):
        rates = tuple(sorted(set(said["lr"])))
        said["lr"] = rates[0] if len(rates) == 1 else rates
    return said


def _several(value: str | Sequence[Any]) -> tuple[Any, ...]:
    """A sequence, or one word for a sequence of one; `a,b` is two words, as on the command line."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value)


def _requests(models: tuple[str, ...], said: dict[str, Any]) -> tuple[ModelRequest, ...]:
    """One request per model."""
    weights = _weights(models, said.pop("weights", None))
    layers = layers_of(said.pop("layers", "last"))
    arguments: Mapping[str, Any] = said.pop("model_args", {})
    for name in ("mean", "std"):
        if name in said:
            said[name] = _channels(name, said[name])
    return tuple(
        ModelRequest(
            name=model,
            options=EncoderOptions(
                weights=weights[index],
                layers="last" if layers == ("all",) else layers[0],
                model_args=_arguments(model, models, arguments),
                **said,
            ),
            layers=layers,
        )
        for index, model in enumerate(models)
    )


def _weights(models: tuple[str, ...], said: Any) -> tuple[str | None, ...]:
    if said is None:
        return (None,) * len(models)
    if isinstance(said, Mapping):
        if unknown := said.keys() - set(models):
            raise UsageError(f"weights are said for {sorted(unknown)[0]!r}, which is none of the models.")
        return tuple(fspath(said[model]) if model in said else None for model in models)
    if isinstance(said, str | PathLike):
        return (fspath(said),) * len(models)
    if len(said) == len(models):
        return tuple(None if each is None else fspath(each) for each in said)
    raise UsageError(
        f"{len(said)} weights are said for {len(models)} models.", why="Say one for all, or one each, or by model."
    )


def _arguments(model: str, models: tuple[str, ...], said: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments meant for one model: those of all, then its own."""
    shared = {key: value for key, value in said.items() if not (key in models and isinstance(value, Mapping))}
    own = said.get(model)
    return shared | (dict(own) if isinstance(own, Mapping) else {})


def _channels(name: str, value: float | Sequence[float]) -> tuple[float, ...]:
    """One number for all three channels, or three."""
    values = (float(value),) * 3 if isinstance(value, float | int) else tuple(float(each) for each in value)
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise UsageError(f"--{name} {value!r}: it takes one number or three.", next=f"--{name} 0.5,0.5,0.5")
    return values
