"""timm networks from the hub, a local checkpoint or a seed; always filled strictly, never partly random.

    source = find_source(entry, EncoderOptions(weights="../shared/weights/mobilenetv2_100.safetensors"))
    network, facts = create(source, EncoderOptions(model_args={"pad_type": "same"}))

Whatever the weights come from, they are read by `weights.load_state` (nothing is unpickled in full) and handed to timm,
which renames foreign layouts and resamples position embeddings when the image size is another one. The classifier is
built as large as the checkpoint's, so that loading is strict, and then dropped: hidden states don't need it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch import Tensor, nn

from umecache.encoders.base import EncoderOptions
from umecache.encoders.hub import fetch
from umecache.encoders.models import ModelEntry
from umecache.encoders.pixels import MAX_IMAGE_SIZE
from umecache.encoders.registry import read_config
from umecache.encoders.weights import WEIGHT_FILES, freeze, load_state, seeded
from umecache.errors import DataError, UnknownName, UsageError

# What a checkpoint folder may say of its images and layers. Where weights lie is not among them: a config.json from
# elsewhere must not name files or addresses.
_FOLDER_FACTS = (
    "mean",
    "std",
    "input_size",
    "fixed_input_size",
    "crop_pct",
    "crop_mode",
    "interpolation",
    "classifier",
    "first_conv",
    "pool_size",
)
_NOT_MODEL_ARGS = (
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_model_args",
    "checkpoint_path",
    "cache_dir",
    "features_only",
    "scriptable",
    "exportable",
    "no_jit",
    "device",
    "dtype",
)
# Arguments that change no hidden state, or that the weights or the preprocessing show already: no part of the recipe.
_INERT_ARGS = (
    "num_classes",
    "img_size",
    "in_chans",
    "global_pool",
    "drop_rate",
    "drop_path_rate",
    "proj_drop_rate",
    "attn_drop_rate",
    "pos_drop_rate",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Which network, and where its weights lie."""

    architecture: str  # timm's model name, with its pretrained tag where one is known
    path: Path | None = None  # weights file or checkpoint folder; None: random
    facts: Mapping[str, Any] = field(default_factory=dict)  # of its images: mean, std, input_size, ...
    model_args: Mapping[str, Any] = field(default_factory=dict)
    repo: str | None = None
    revision: str | None = None

    @property
    def plain_architecture(self) -> str:
        """Without the tag, which names weights rather than a network."""
        return self.architecture.partition(".")[0]


def find_source(entry: ModelEntry, options: EncoderOptions) -> Source:
    """Where network and weights come from: `--weights`, the model folder, or the hub (downloaded here).

    Raises:
        UmecacheError: an unknown architecture, a missing or malformed folder, a folder of another architecture,
            no network.
    """
    architecture = _with_tag(entry)
    if architecture:
        check_architecture(architecture)
    if options.weights == "random" and architecture and entry.folder is None:
        return Source(architecture=architecture, model_args=entry.config)
    path, repo, revision = entry.folder, None, None
    if options.weights not in (None, "random"):
        path = Path(str(options.weights)).expanduser()
    elif path is None:
        repo = entry.repo or _hub_repo(architecture)
        snapshot = fetch(repo, entry.revision)
        path, revision = snapshot.folder, snapshot.commit
    facts: dict[str, Any] = {}
    model_args = dict(entry.config)
    folder = _folder_with_config(path, entry.folder)
    if folder is not None:
        named, facts, saved_args = _read_folder(folder)
        if architecture and named.partition(".")[0] != architecture.partition(".")[0]:
            raise UsageError(
                f"{folder} holds a {named}; --model {entry.name} is a {architecture.partition('.')[0]}.",
                next=f"umecache extract --model {folder}",
            )
        architecture = architecture or named
        model_args |= saved_args
    return Source(
        architecture=architecture,
        path=None if options.weights == "random" else path,
        facts=facts,
        model_args=model_args,
        repo=repo,
        revision=revision,
    )


def create(source: Source, options: EncoderOptions) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network, frozen and without its classifier.

    Returns:
        the network, and timm's facts about its images with `image_size` and `model_args` as they came out.

    Raises:
        UmecacheError: weights that don't fit, arguments that the network doesn't take, a size that it can't have.
    """
    facts = image_facts(source)
    args = {**source.model_args, **options.model_args}
    reserved = sorted(set(args) & set(_NOT_MODEL_ARGS)) + ["in_chans"] * (args.get("in_chans", 3) != 3)
    if reserved:
        raise UsageError(
            f"{reserved[0]!r} is no argument of a model here.",
            why="Weights are said with --weights, and images are RGB.",
            next="umecache extract --help",
        )
    size = image_size(source, facts, options)
    if facts.get("fixed_input_size") or "img_size" in args:  # built for one size; other networks take any
        args["img_size"] = size
    overlay: dict[str, Any] = {name: _tuples(value) for name, value in source.facts.items()}
    state = None if source.path is None else load_state(source.path)
    if state is None:
        args.setdefault("num_classes", 0)
    else:
        args.setdefault("num_classes", head_classes(state, facts.get("classifier")))
    # A folder's saved arguments may themselves name a size or classes; what is said here goes first.
    network = _build(source, options, overlay, args, state)
    network.reset_classifier(0)  # type: ignore[operator]  # every timm network has it
    model_args = {name: value for name, value in args.items() if name not in _INERT_ARGS}
    return freeze(network), {**facts, "image_size": size, "model_args": model_args}


def image_facts(source: Source) -> dict[str, Any]:
    """timm's data configuration (mean, std, input_size, crop_pct, ...), and over it what the checkpoint folder says."""
    registered = get_pretrained_cfg(source.architecture) or PretrainedCfg()
    return {**registered.to_dict(), **source.facts}


def image_size(source: Source, facts: Mapping[str, Any], options: EncoderOptions) -> int:
    """S, pixels of a side: what was asked for, else the network's own."""
    said: Any = options.image_size
    for args in (options.model_args, source.model_args):
        said = args.get("img_size") if said is None else said
    sides = (
        (said, said) if isinstance(said, int) else facts.get("input_size", (3, 224, 224))[1:] if said is None else said
    )
    if not isinstance(sides, tuple | list) or len(sides) != 2 or not all(isinstance(side, int) for side in sides):
        raise UsageError(f"img_size={said!r} is no size in pixels.", next="--image-size 224")
    height, width = sides
    if height != width:
        raise UsageError(
            f"{source.plain_architecture} reads images of {height} x {width}; here they are squares.",
            next=f"--image-size {min(height, width)}",
        )
    if not 1 <= height <= MAX_IMAGE_SIZE:
        raise UsageError(f"--image-size {height} is not within 1 to {MAX_IMAGE_SIZE}.", next="--image-size 224")
    return int(height)


def check_architecture(name: str) -> None:
    """Refuse what timm doesn't know, with the nearest that it does."""
    plain, _, tag = name.partition(".")
    if not timm.is_model(plain):
        near = [known for known in timm.list_models() if known.split("_")[0] == plain.split("_")[0].lower()]
        listing = f"python -c 'import timm; print(timm.list_models(\"*{plain[:6]}*\"))'"
        raise UnknownName("timm model", plain, near or timm.list_models(), listing=listing)
    tags = [known.partition(".")[2] for known in timm.models.get_arch_pretrained_cfgs(plain)]
    if tag and tag not in tags:
        raise UnknownName(f"weights of {plain}", tag, tags, listing=f"https://huggingface.co/timm?search={plain}")


def head_classes(state: Mapping[str, Tensor], classifier: object) -> int:
    """Classes of the checkpoint's classifier; 0 where it has none."""
    named = [classifier] if isinstance(classifier, str) else list(classifier) if isinstance(classifier, tuple) else []
    for name in [*named, "head.fc", "head", "fc", "classifier", "classifier.6", "last_linear"]:
        if (weight := state.get(f"{name}.weight")) is not None and weight.ndim in (2, 4):
            return len(weight)
    return 0


def _with_tag(entry: ModelEntry) -> str:
    """The registry pins weights by their repository, whose name carries timm's tag."""
    named = (entry.repo or "").removeprefix("timm/")
    tagged = named.partition(".")[0] == entry.architecture and named != entry.architecture
    return named if tagged and entry.architecture else entry.architecture


def _folder_with_config(*places: Path | None) -> Path | None:
    """The first of these checkpoint folders (or folders of a file that is named like a checkpoint's) that says more."""
    for place in places:
        folder = place.parent if place is not None and place.name in WEIGHT_FILES else place
        if folder is not None and (folder / "config.json").is_file():
            return folder
    return None


def _hub_repo(architecture: str) -> str:
    facts = get_pretrained_cfg(architecture)
    if facts is None or not facts.hf_hub_id or facts.hf_hub_filename:
        raise UsageError(
            f"timm knows no weights of {architecture} in a form that can be fetched.",
            next=f"umecache extract --model timm:{architecture} --weights PATH (or random)",
        )
    return str(facts.hf_hub_id)


def _read_folder(folder: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Architecture, image facts and model arguments of a timm checkpoint folder's config.json."""
    config = read_config(folder)
    name, model_args = config.get("architecture"), config.get("model_args") or {}
    facts = config.get("pretrained_cfg", config)  # older folders keep everything on one level
    if not isinstance(name, str) or not isinstance(facts, dict) or not isinstance(model_args, dict):
        raise DataError(
            f"{folder / 'config.json'} is not that of a timm model.",
            why='It needs "architecture", and "pretrained_cfg" as an object.',
            next="timm.models.save_for_hf(model, folder) writes one",
        )
    check_architecture(name.partition(".")[0])
    known = {key: _tuples(facts[key]) for key in _FOLDER_FACTS if facts.get(key) is not None}
    for key in ("mean", "std", "input_size"):
        value = known.get(key, (0, 0, 0))
        if not isinstance(value, tuple) or len(value) != 3 or not all(isinstance(v, int | float) for v in value):
            raise DataError(f"{folder / 'config.json'}: {key} is not 3 numbers.", why=f"It is {facts[key]!r}.")
    for key, kind in (("crop_pct", (int, float)), ("crop_mode", (str,)), ("interpolation", (str,))):
        if not isinstance(known.get(key, kind[0]()), kind):
            raise DataError(f"{folder / 'config.json'}: {key} can't be {facts[key]!r}.")
    # num_classes there is the head's; what the weights really have is seen when they are loaded.
    return name, known, {key: _tuples(value) for key, value in model_args.items() if key != "num_classes"}


def _build(
    source: Source,
    options: EncoderOptions,
    overlay: dict[str, Any],
    args: dict[str, Any],
    state: dict[str, Tensor] | None,
) -> nn.Module:
    if state is not None:
        overlay |= {"state_dict": state, "custom_load": False, "num_classes": args["num_classes"], "label_offset": 0}
    try:
        with seeded(options.seed):
            network: nn.Module = timm.create_model(
                source.architecture, pretrained=state is not None, pretrained_cfg_overlay=overlay, **args
            )
    except MemoryError:
        raise
    except Exception as error:  # timm asserts, and raises whatever torch does, on arguments that don't fit
        misfit = Misfit.parse(str(error))
        if state is not None and misfit is not None:
            if misfit.harmless(state):
                slim = {name: tensor for name, tensor in state.items() if name not in misfit.unexpected}
                return _build(source, options, overlay, args, slim)
            raise misfit.refusal(source) from None
        raise _refused_arguments(source, args, error) from None
    network.pretrained_cfg.pop("state_dict", None)  # type: ignore[union-attr, operator]  # a copy of the weights
    return network


def _refused_arguments(source: Source, args: Mapping[str, Any], error: Exception) -> UsageError:
    why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
    said = ", ".join(f"{name}={value!r}" for name, value in args.items() if name != "num_classes") or "none"
    return UsageError(
        f"timm can't build {source.plain_architecture} with these arguments: {said}.",
        why=why,
        next="umecache extract --model-arg KEY=VALUE, --image-size N",
    )


@dataclass(frozen=True, slots=True)
class Misfit:
    """What torch says of a state dict that doesn't fit, name by name."""

    missing: list[str]
    unexpected: list[str]
    shapes: list[str]  # "NAME is [..] in the checkpoint and [..] in the model"

    @classmethod
    def parse(cls, message: str) -> Misfit | None:
        """None where the message is about something else."""
        if "loading state_dict" not in message:
            return None
        lists = {
            kind: re.search(rf"{kind} key\(s\) in state_dict: (.*)", message) for kind in ("Missing", "Unexpected")
        }
        names = {kind: re.findall(r'"([^"]+)"', found.group(1)) if found else [] for kind, found in lists.items()}
        shapes = re.findall(r"size mismatch for (\S+): .*?torch\.Size\((\[.*?\])\).*?torch\.Size\((\[.*?\])\)", message)
        told = [f"{name} is {theirs} in the checkpoint and {ours} in the model" for name, theirs, ours in shapes]
        return cls(names["Missing"], names["Unexpected"], told)

    def harmless(self, state: Mapping[str, Tensor]) -> bool:
        """Nothing is wrong but tensors left over, of parts that the network doesn't have (say, another head)."""
        if self.missing or self.shapes or not set(self.unexpected) <= set(state):
            return False
        pattern = {name: re.sub(r"\d+", "#", name) for name in state}
        taken = {pattern[name] for name in set(state) - set(self.unexpected)}
        # blocks.12.norm1.weight beside blocks.11.norm1.weight: the checkpoint is of a deeper network.
        return bool(self.unexpected) and not any(pattern[name] in taken for name in self.unexpected)

    def refusal(self, source: Source) -> DataError:
        """In words."""
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in (
                ("weights missing", self.missing),
                ("unknown", self.unexpected),
                ("of another shape", self.shapes),
            )
            if names
        ]
        return DataError(
            f"{source.path} does not fit {source.plain_architecture}: {'; '.join(parts)}.",
            why="Weights that are not filled would stay random.",
            next="--model with the network that the weights are of, or --model-arg KEY=VALUE as it was built",
        )


def _tuples(value: Any) -> Any:
    """JSON lists as timm wants them."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
