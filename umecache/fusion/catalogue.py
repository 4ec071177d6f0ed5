"""The fusion methods that come with umecache: what each is called, where it lies, whose it is, what can be set.

`registry.py` loads them; `costs.py` says what they cost. Neither this file nor those load torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
        max_modalities: more can't be joined; None: any number.
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
    max_modalities: int | None = None


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

RANK = Option("rank", 5, "int >= 1", "terms of the sum of products")
MANY_HEADS = Option("heads", 4, "int, divides width", "attention heads")
EXPAND = Option("expand", 2, "int >= 1", "width of the feed-forward map over the tokens' (papers: 4)")

LAYERS = Option("layers", 2, "int >= 1", "layers of attention")
TEXT_STATE = Option("text_state", "last", "last | mean", "the question's last token, or the mean of its tokens")
CHUNKS = Option("chunks", 8, "int >= 1", "blocks on the core's diagonal")
GLIMPSES = Option("glimpses", 4, "int >= 1", "attention maps, one after the other")
BOTTLENECKS = Option("bottlenecks", 4, "int >= 1", "tokens that all modalities share")

THESIS = "K. Lee, Research on Efficient Modality Fusion for Enhanced Uni-modal Ensemble (thesis)"
VQA = "Antol et al., VQA: Visual Question Answering, ICCV 2015, arXiv:1505.00468"
LATE = "Snoek et al., Early versus Late Fusion in Semantic Video Analysis, ACM Multimedia 2005"
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
        MethodEntry(
            "lstm-q-norm-i",
            "umecache.fusion.lstm_q_norm_i:LSTMQNormI",
            "f = tanh(W_q q) * tanh(W_i v / |v|),  q last text state, v mean of the image's tokens",
            VQA,
            "deeper LSTM Q + norm I, the VQA paper's baseline",
            (WIDTH, DROPOUT, TEXT_STATE, INPUT_NORM),
            min_modalities=2,
        ),
        MethodEntry(
            "late-mean",
            "umecache.fusion.late_mean:LateMean",
            "f = [h_1; ...; h_M] / M,  h_m = gelu(W_m p_m + b_m);  so logits = mean of unimodal logits",
            LATE,
            "late ensemble: a classifier per modality, logits averaged",
            POOLED,
            min_modalities=2,
        ),
        MethodEntry(
            "late-weighted",
            "umecache.fusion.late_weighted:LateWeighted",
            "f = [a_1 h_1; ...; a_M h_M],  a = softmax(u);  so logits = sum a_m (unimodal logits)",
            LATE,
            "late ensemble: a classifier per modality, learnt weights",
            POOLED,
            min_modalities=2,
        ),
        MethodEntry(
            "simple-pair",
            "umecache.fusion.simple_pair:SimplePair",
            "f = mean(p_ij),  p_ij = tanh(W1 z_i + W2 z_j + W3 (z_i - z_j) + W4 (z_i * z_j))",
            THESIS,
            "evc with a dense map per pair, O(N^2 D^2): for comparison",
            (WIDTH, DROPOUT, PAIRS, ACTIVATION, HEADS, RESIDUAL, INPUT_NORM),
        ),
        MethodEntry(
            "uat",
            "umecache.fusion.uat:UAT",
            "f = mean(p_ij),  p_ij as in evc, U_k = X W_k^T",
            THESIS + ", its pair stage alone",
            "evc without the attention",
            (WIDTH, DROPOUT, PAIRS, ACTIVATION, INPUT_NORM),
        ),
        MethodEntry(
            "mutan",
            "umecache.fusion.mutan:MUTAN",
            "f = sum_r (M_r tanh(p_text)) * (N_r tanh(p_image))",
            "Ben-younes et al., MUTAN, ICCV 2017, arXiv:1705.06676",
            "Tucker product with slices of rank R",
            (WIDTH, DROPOUT, RANK, INPUT_NORM),
            min_modalities=2,
        ),
        MethodEntry(
            "block",
            "umecache.fusion.block:BLOCK",
            "f = W [z_1; ...; z_C] + b,  z_c = norm(sum_r (M_cr q_c) * (N_cr v_c)) of chunks q_c, v_c",
            "Ben-younes et al., BLOCK, AAAI 2019, arXiv:1902.00038",
            "block-term product: small bilinear maps of chunks",
            (WIDTH, DROPOUT, CHUNKS, replace(RANK, default=15), INPUT_NORM),
            min_modalities=2,
        ),
        MethodEntry(
            "ban",
            "umecache.fusion.ban:BAN",
            "f = sum_i x_i,  x_i += P_g sum_ij A_g,ij relu(U_g x_i) * relu(V_g y_j),  g = 1..G",
            "Kim et al., Bilinear Attention Networks, NeurIPS 2018, arXiv:1805.07932",
            "bilinear attention over pairs, several glimpses",
            (WIDTH, DROPOUT, GLIMPSES, INPUT_NORM),
            min_modalities=2,
            max_modalities=2,
        ),
        MethodEntry(
            "mcan",
            "umecache.fusion.mcan:MCAN",
            "f = LN(W_x x~ + W_y y~),  X = SA^L(X), Y = SGA^L(Y, X),  x~ = softmax(MLP(X)) X",
            "Yu et al., MCAN, CVPR 2019, arXiv:1906.10770",
            "self-attention, question-guided attention, attention pooling",
            (WIDTH, DROPOUT, replace(LAYERS, default=1), MANY_HEADS, EXPAND, INPUT_NORM),
            min_modalities=2,
        ),
        MethodEntry(
            "mbt",
            "umecache.fusion.mbt:MBT",
            "f = mean(LN(CLS_m)),  [z_m; b_m] = Transformer_m([z_m; b]), b = mean(b_m), L times",
            "Nagrani et al., Attention Bottlenecks, NeurIPS 2021, arXiv:2107.00135",
            "a transformer per modality, joined by a few shared tokens",
            (WIDTH, DROPOUT, replace(LAYERS, values="int >= 2"), BOTTLENECKS, MANY_HEADS, EXPAND, INPUT_NORM),
            min_modalities=2,
        ),
    )
}
