"""Every fusion method by name, loaded when asked for. `umecache methods` prints this file; it imports no torch.

    fusion = build_fusion("ume", {"text": 384, "image": 1280}, width=256, pairs="cross")
    cls = load_fusion("ume")               # the class itself; also "./mine.py:Mine", or an entry point's name

A new method: one file beside this one, one entry here, one row in docs/methods.md. The conformance suite in
tests/fusion/contract.py takes it up by itself. A package of one's own can offer methods as entry points of the group
`umecache.fusions`.
"""

from __future__ import annotations

import importlib.util
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from umecache.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from umecache.fusion.base import Fusion

ENTRY_POINTS = "umecache.fusions"
LISTING = "umecache methods"


@dataclass(frozen=True, slots=True)
class Option:
    """One keyword argument of a method, as `--method-arg NAME=VALUE` sets it."""

    name: str
    default: Any
    values: str  # what it can be
    help: str


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """One fusion method.

    Attributes:
        target: "module:Class".
        min_modalities: fewer make no sense.
        uses: the modalities it looks at; None: all that are given.
        control: True for methods that leave a modality out on purpose, to measure what the others bring.
    """

    name: str
    target: str
    equation: str
    citation: str
    summary: str
    options: tuple[Option, ...]
    min_modalities: int = 1
    uses: tuple[str, ...] | None = None
    control: bool = False


WIDTH = Option("width", 256, "int >= 1", "width of projections and of the fused vector")
DROPOUT = Option("dropout", 0.0, "0 <= x < 1", "on the fused vector")
INPUT_NORM = Option("input_norm", "layer", "layer | none", "LayerNorm on every input token; none: the source's drawing")
HEADS = Option("heads", 1, "int, divides width", "attention heads")
RESIDUAL = Option("residual", False, "true | false", "LayerNorm(X + Z) in place of Z")
PAIRS = Option("pairs", "upper", "upper | all | cross", "i <= j; ordered pairs; i < j of different modalities")
ACTIVATION = Option("activation", "tanh", "tanh | tanh2", "tanh2(x) = tanh(x ln 2), as printed in the source")
AWS_LOGIT = Option(
    "aws_logit", "tanh", "tanh | linear", "bounded logits stay near uniform; linear ones may concentrate"
)

THESIS = "K. Lee, Research on Efficient Modality Fusion for Enhanced Uni-modal Ensemble (thesis)"
VQA = "Antol et al., VQA: Visual Question Answering, ICCV 2015, arXiv:1505.00468"
VQA2 = "Goyal et al., Making the V in VQA Matter, CVPR 2017, arXiv:1612.00837"
POOLED = (WIDTH, DROPOUT, INPUT_NORM)

METHODS: dict[str, MethodEntry] = {
    entry.name: entry
    for entry in (
        MethodEntry(
            "text-only",
            "umecache.fusion.text_only:TextOnly",
            "f = gelu(W p_text + b)",
            VQA2,
            "control: the question alone",
            POOLED,
            uses=("text",),
            control=True,
        ),
        MethodEntry(
            "image-only",
            "umecache.fusion.image_only:ImageOnly",
            "f = gelu(W p_image + b)",
            VQA,
            "control: the image alone",
            POOLED,
            uses=("image",),
            control=True,
        ),
        MethodEntry(
            "concat",
            "umecache.fusion.concat:Concat",
            "f = gelu(W [p_1; ...; p_M] + b),  p_m = mean(H_m P_m)",
            VQA,
            "pooled projections side by side, one hidden layer",
            POOLED,
            min_modalities=2,
        ),
        MethodEntry(
            "product",
            "umecache.fusion.product:Product",
            "f = gelu(W (tanh(p_1) * ... * tanh(p_M)) + b),  p_m = mean(H_m P_m)",
            VQA,
            "pooled projections multiplied, one hidden layer",
            POOLED,
            min_modalities=2,
        ),
        MethodEntry(
            "attention",
            "umecache.fusion.attention:Attention",
            "f = mean(Z),  Z = softmax(Q K^T / sqrt(D)) V over X = concat_m(H_m P_m)",
            THESIS,
            "attention over the tokens of all modalities",
            (WIDTH, DROPOUT, HEADS, RESIDUAL, INPUT_NORM),
        ),
        MethodEntry(
            "evc",
            "umecache.fusion.evc:EVC",
            "f = mean(p_ij),  p_ij = tanh(U1_i + U2_j + (U3_i - U3_j) + U4_i * U4_j),  U_k = Z W_k^T",
            THESIS,
            "attention, then the mean over all pairs of tokens",
            (WIDTH, DROPOUT, PAIRS, ACTIVATION, HEADS, RESIDUAL, INPUT_NORM),
        ),
        MethodEntry(
            "ume",
            "umecache.fusion.ume:UME",
            "f = sum a_ij p_ij,  a = softmax(e) over pairs,  e_ij = tanh(w . p_ij + b)",
            THESIS,
            "attention, then all pairs, weighted",
            (WIDTH, DROPOUT, PAIRS, ACTIVATION, AWS_LOGIT, HEADS, RESIDUAL, INPUT_NORM),
        ),
        MethodEntry(
            "ume-res",
            "umecache.fusion.ume_res:UMEResidual",
            "ume with Z = LayerNorm(X + softmax(Q K^T / sqrt(D)) V)",
            THESIS + "; residual: Vaswani et al., NeurIPS 2017, arXiv:1706.03762",
            "ume with residual and LayerNorm around the attention",
            (WIDTH, DROPOUT, PAIRS, ACTIVATION, AWS_LOGIT, HEADS, INPUT_NORM),
        ),
    )
}


def load_fusion(name: str) -> type[Fusion]:
    """The class of a method: a name of `METHODS`, an entry point's name, or "FILE.py:Class".

    Raises:
        UnknownName: no method is called so.
        UsageError: the file can't be used.
    """
    if ".py:" in name or name.endswith(".py"):
        return _from_file(name)
    if name in METHODS:
        return _checked(pkgutil.resolve_name(METHODS[name].target), name)
    offered = offered_methods()
    if name in offered:
        return _checked(offered[name].load(), name)
    raise UnknownName("fusion method", name, {*METHODS, *offered}, listing=LISTING)


def build_fusion(name: str, dims: Mapping[str, int], **options: Any) -> Fusion:
    """Make a fusion of the method `name` for features of these widths; `options` as `umecache methods` lists them.

    Raises:
        UsageError: an option that the method doesn't have, a value it can't take, or too few modalities.
    """
    cls = load_fusion(name)
    known = [p.name for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            close = get_close_matches(option, known, n=1)
            raise UsageError(
                f"The method {name!r} has no option {option!r}.",
                why=f"Did you mean {close[0]!r}?" if close else f"It has: {', '.join(known)}.",
                next=LISTING,
            )
    entry = METHODS.get(name)
    if entry is not None and len(dims) < entry.min_modalities:
        raise UsageError(
            f"The method {name!r} joins at least {entry.min_modalities} modalities.",
            why=f"Given: {', '.join(dims) or 'none'}.",
            next="umecache fuse --text STORE --image STORE",
        )
    return cls(dims, **options)


def offered_methods() -> dict[str, EntryPoint]:
    """Methods that installed packages offer, by name."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _from_file(name: str) -> type[Fusion]:
    path, _, attribute = name.rpartition(":")
    file = Path(path).expanduser()
    if not path or not attribute:
        raise UsageError(f"{name!r} names a file but no class.", next=f"--method {name.rstrip(':')}:MyFusion")
    if not file.is_file():
        raise UsageError(f"There is no file {file}.", why=f"The method is {name!r}.", next=LISTING)
    spec = importlib.util.spec_from_file_location(f"umecache_user_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} can't be imported.", next=f"python {file}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, attribute):
        close = get_close_matches(attribute, [key for key in vars(module) if not key.startswith("_")], n=1)
        guess = f"Did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"{file} has no class {attribute!r}.", why=guess, next=f"--method {path}:NAME")
    return _checked(getattr(module, attribute), name)


def _checked(found: Any, name: str) -> type[Fusion]:
    from umecache.fusion.base import Fusion  # torch loads here

    if not (isinstance(found, type) and issubclass(found, Fusion)):
        raise UsageError(
            f"{name!r} is not a fusion method.",
            why="A method is a subclass of umecache.fusion.base.Fusion.",
            next=LISTING,
        )
    return found
