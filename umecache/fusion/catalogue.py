"""The fusion methods that come with umecache: what each is called, where it lies, whose it is, what can be set.

`registry.py` loads them; `costs.py` says what they cost. Neither this file nor those load torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
