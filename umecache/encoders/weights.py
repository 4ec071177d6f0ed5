"""Checkpoints in and out: the only place that reads a `.bin`, and it never unpickles one in full.

    state = load_state("../checkpoints/bert")     # model.safetensors, pytorch_model.bin, either one sharded
    check_fit(missing, unexpected, module, source="../checkpoints/bert")
    weights_sha256(module)                        # the same for the same weights, whatever file they came from

Cost of the hash: about a second per GB.
"""

from __future__ import annotations

import hashlib
import json
import pickle  # noqa: TID251 - for the name of the exception that torch's restricted loader raises; nothing is unpickled
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from umecache.errors import DataError, UmecacheError

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names that a checkpoint folder's weights go by, the preferred first."""

_SAFE_TORCH = (2, 6)  # weights_only=True could be got round before it (CVE-2025-32434)
_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "module",
)  # training scripts save {"state_dict": ..., "epoch": ...}


def find_weights(folder: Path) -> Path:
    """The weights file (or shard index) of a checkpoint folder: one of `WEIGHT_FILES`, else its only `*.safetensors`.

    Raises:
        DataError: there is none; names what is there.
    """
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:
        return others[0]
    foreign = [n for n in ("tf_model.h5", "flax_model.msgpack", "rust_model.ot") if (folder / n).is_file()]
    found = ", ".join(path.name for path in others) or ", ".join(foreign) or "none of them"
    raise DataError(
        f"{folder} holds no weights.",
        why=f"Looked for {', '.join(WEIGHT_FILES)} or one *.safetensors; found {found}.",
        next=f"hf download ORG/NAME --local-dir {folder}",
    )


def load_state(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, by name, on the CPU.

    Args:
        path: a checkpoint folder, a `.safetensors`, `.bin`, `.pt` or `.pth` file, or a shard index (`*.index.json`).

    Raises:
        DataError: nothing there, a damaged file, or one that only unpickling could read.
    """
    path = Path(path)
    if path.is_dir():
        path = find_weights(path)
    if not path.is_file():
        raise DataError(f"There are no weights at {path}.", next="umecache extract --weights PATH")
    if path.name.endswith(".index.json"):
        return _load_shards(path)
    return _load_safetensors(path) if path.suffix == ".safetensors" else _load_bin(path)


def _load_shards(index: Path) -> dict[str, Tensor]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{index} is no shard index: {error}.", next=f"hf download ORG/NAME {index.name}") from None
    state: dict[str, Tensor] = {}
    for name in shards:
        # An index is data from elsewhere: it may only point at files beside itself.
        if not isinstance(name, str) or Path(name).name != name:
            raise DataError(f"{index} points outside its folder: {name!r}.", next="hf download ORG/NAME")
        if not (index.parent / name).is_file():
            raise DataError(
                f"{index.parent} lacks the shard {name}.",
                why=f"{index.name} lists {len(shards)} shards.",
                next=f"hf download ORG/NAME {name} --local-dir {index.parent}",
            )
        state |= load_state(index.parent / name)
    absent = sorted(set(weight_map) - set(state))
    if absent:
        raise DataError(f"{index} lists tensors that its shards lack: {_some(absent)}.", next="hf download ORG/NAME")
    return state


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(
            f"{path} is damaged or no safetensors file.",
            why=_first_line(error),
            next="download it again: hf download ORG/NAME model.safetensors",
        ) from None
    return state


def _load_bin(path: Path) -> dict[str, Tensor]:
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < _SAFE_TORCH:
        raise DataError(
            f"{path} is not read with torch {torch.__version__}.",
            why="Before torch 2.6 even its restricted loader could be made to run code (CVE-2025-32434).",
            next="pip install 'torch>=2.6'",
        )
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 - the one place
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from None
    except (RuntimeError, ValueError, EOFError, OSError, zipfile.BadZipFile, UnicodeDecodeError, KeyError) as error:
        raise DataError(
            f"{path} is damaged or no torch checkpoint.", why=_first_line(error), next="hf download"
        ) from None
    return _tensors(loaded, path)


def _refusal(path: Path, error: Exception) -> UmecacheError:
    """Tell files that hold Python objects from files that are no checkpoints."""
    named = re.search(r"(?:GLOBAL|global|class)\s+`?([\w.]+)", str(error))
    if named is None:
        return DataError(f"{path} is damaged or no torch checkpoint.", why=_first_line(error), next="hf download")
    return DataError(
        f"{path} is refused: it holds Python objects ({named.group(1)}), not only tensors.",
        why="Reading them means unpickling, which can run any code.",
        next="where it was made: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')",
    )


def _tensors(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The state dict inside what a checkpoint file holds."""
    if isinstance(loaded, Mapping) and not any(isinstance(value, Tensor) for value in loaded.values()):
        loaded = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), loaded)
    pairs = loaded.items() if isinstance(loaded, Mapping) else ()
    state = {str(name): value for name, value in pairs if isinstance(value, Tensor)}
    if not state:
        raise DataError(f"{path} holds no state dict.", why=f"It is a {type(loaded).__name__}.", next="umecache models")
    if all(name.startswith("module.") for name in state):  # saved from DistributedDataParallel
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def check_fit(
    missing: Iterable[str],
    unexpected: Iterable[str],
    module: nn.Module,
    *,
    source: str,
    may_miss: Collection[str] = (),
    may_cut: bool = False,
) -> list[str]:
    """Refuse a checkpoint that doesn't fill the encoder; weights of heads that the encoder lacks are fine.

    Args:
        missing: parameters that the checkpoint lacked.
        unexpected: tensors that the module has no place for.
        may_miss: parts of names (say "pooler") whose parameters play no role in the hidden states.
        may_cut: the user asked for fewer layers than the checkpoint has.

    Returns:
        The names that were left over, sorted.

    Raises:
        DataError: parameters are missing, or the checkpoint has more layers than the module.
    """
    absent = sorted(name for name in missing if not any(part in name for part in may_miss))
    if absent:
        raise DataError(
            f"{source} lacks {len(absent)} of the encoder's weights: {_some(absent)}.",
            why="They would stay random, and every cached value would be noise.",
            next="umecache extract --weights PATH (a whole checkpoint of this architecture)",
        )
    left = sorted(unexpected)
    # "bert.encoder.layer.12.output.dense.weight" is, but for its number (and the prefix of a model with a head), a
    # parameter that we do have: the checkpoint is deeper.
    known = {_pattern(name) for name in module.state_dict()}
    surplus = [name for name in left if {_pattern(name), _pattern(name.partition(".")[2])} & known]
    if surplus and not may_cut:
        raise DataError(
            f"{source} has {len(surplus)} weights beyond the configured layers: {_some(surplus)}.",
            why="The configuration is of a smaller model than the weights.",
            next="use the config.json that belongs to the weights",
        )
    return left


def load_into(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> list[str]:
    """Fill a plain module, strictly; see `check_fit`.

    Raises:
        DataError: weights are missing or of another shape.
    """
    try:
        result = module.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        shapes = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        raise DataError(
            f"{source} does not fit the model.", why=(shapes or [_first_line(error)])[0], next="umecache models"
        ) from None
    return check_fit(result.missing_keys, result.unexpected_keys, module, source=source)


def weights_sha256(module: nn.Module, *, skip: Collection[str] = ()) -> str:
    """Hash of a module's parameters and persistent buffers, whatever file or order they came in.

    Covers name, dtype, shape and bytes of each tensor of `state_dict()`, sorted by name; buffers that are not saved
    (positions, masks) are computed, not loaded, and left out.

    Args:
        skip: parts of names to leave out (say "pooler": made, but not part of the hidden states).
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if any(part in name for part in skip):
            continue
        head = json.dumps([name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)])
        digest.update(head.encode() + b"\n")
        # As bytes: numpy has no bfloat16, and a view costs nothing.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw the weights made inside from `seed`; torch's own random state is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the accelerators as well
        yield


def freeze(module: nn.Module) -> nn.Module:
    """Eval mode, float32, no gradients; returns the module."""
    return module.float().eval().requires_grad_(False)


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _some(names: Collection[str], count: int = 3) -> str:
    shown = ", ".join(sorted(names)[:count])
    return shown + (f", ... ({len(names) - count} more)" if len(names) > count else "")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
