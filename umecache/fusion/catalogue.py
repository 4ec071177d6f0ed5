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

FACTORS = Option("factors", 5, "int >= 1", "products summed for each number of the output")
ORDER = Option("order", 2, "int >= 1", "blocks in the cascade")
CORE = Option("core", 64, "int >= 1", "width of both projections")
SKETCH = Option("sketch", 4096, "int >= 1", "numbers of each count sketch")
INNER = Option("inner", 32, "int >= 1", "width of each projection before the outer product")
LATENTS = Option("latents", 32, "int >= 1", "learnt vectors")
QUERIES = Option("queries", 32, "int >= 1", "learnt vectors")

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
        MethodEntry(
            "mlb",
            "umecache.fusion.mlb:MLB",
            "f = P^T (tanh(U^T x) * tanh(V^T y)),  x, y means of tokens",
            "Kim et al., MLB, ICLR 2017, arXiv:1610.04325",
            "low-rank bilinear pooling",
            (WIDTH, DROPOUT, replace(RANK, default=512), INPUT_NORM),
            min_modalities=2,
        ),
        MethodEntry(
            "mfb",
            "umecache.fusion.mfb:MFB",
            "f = norm(sum_k (U_k x) * (V_k y)),  norm: signed root, then l2",
            "Yu et al., MFB, ICCV 2017, arXiv:1708.01471",
            "factorised bilinear pooling",
            (WIDTH, DROPOUT, FACTORS, INPUT_NORM),
            min_modalities=2,
        ),
        MethodEntry(
            "mfh",
            "umecache.fusion.mfh:MFH",
            "f = [z_1; ...; z_order],  z_i = norm(sum_k e_i),  e_i = (U_i x) * (V_i y) * e_(i-1)",
            "Yu et al., MFH, IEEE TNNLS 2018, arXiv:1708.03619",
            "a cascade of MFB blocks",
            (WIDTH, DROPOUT, FACTORS, ORDER, INPUT_NORM),
            min_modalities=2,
        ),
        MethodEntry(
            "tucker",
            "umecache.fusion.tucker:Tucker",
            "f = T x_1 q x_2 v,  f_k = sum_ij tanh(p_text)_i T_ijk tanh(p_image)_j",
            "Tucker, Psychometrika 1966; as a fusion: Ben-younes et al., MUTAN, ICCV 2017, arXiv:1705.06676",
            "a dense bilinear core between two small vectors",
            (WIDTH, DROPOUT, CORE, INPUT_NORM),
            min_modalities=2,
            max_modalities=2,
        ),
        MethodEntry(
            "mcb",
            "umecache.fusion.mcb:MCB",
            "f = W norm(psi_1 (*) ... (*) psi_M) + b,  psi_m count sketch of x_m, (*) by FFT",
            "Fukui et al., MCB, EMNLP 2016, arXiv:1606.01847",
            "compact bilinear pooling",
            (WIDTH, DROPOUT, SKETCH, INPUT_NORM),
            min_modalities=2,
        ),
        MethodEntry(
            "tfn",
            "umecache.fusion.tfn:TFN",
            "f = gelu(W ([p_1; 1] (x) ... (x) [p_M; 1]) + b)",
            "Zadeh et al., Tensor Fusion Network, EMNLP 2017, arXiv:1707.07250",
            "outer product of small vectors, one hidden layer",
            (WIDTH, DROPOUT, INNER, INPUT_NORM),
            min_modalities=2,
            max_modalities=3,
        ),
        MethodEntry(
            "lmf",
            "umecache.fusion.lmf:LMF",
            "f = sum_r prod_m W_m^r [x_m; 1]",
            "Liu et al., Low-rank Multimodal Fusion, ACL 2018, arXiv:1806.00064",
            "tensor fusion with weights of low rank",
            (WIDTH, DROPOUT, replace(RANK, default=4), INPUT_NORM),
            min_modalities=2,
        ),
        MethodEntry(
            "film",
            "umecache.fusion.film:FiLM",
            "f = max_j(W y_j),  y_j = h_j + relu((1 + g) * norm(V h_j) + b),  g, b from p_text, L times",
            "Perez et al., FiLM, AAAI 2018, arXiv:1709.07871",
            "the question scales and shifts the image's features",
            (WIDTH, DROPOUT, LAYERS, INPUT_NORM),
            min_modalities=2,
        ),
        MethodEntry(
            "gmu",
            "umecache.fusion.gmu:GMU",
            "f = sum_m z_m * tanh(W_m x_m),  z_m = sigmoid(Z_m [x_1; ...; x_M])",
            "Arevalo et al., Gated Multimodal Units, ICLR 2017 workshop, arXiv:1702.01992",
            "gates decide number by number",
            (WIDTH, DROPOUT, INPUT_NORM),
            min_modalities=2,
        ),
        MethodEntry(
            "vilbert",
            "umecache.fusion.vilbert:ViLBERT",
            "f = prod_m mean(Z_m),  Z_m = TRM(Z_m, Z_others), then TRM(Z_m, Z_m), L times",
            "Lu et al., ViLBERT, NeurIPS 2019, arXiv:1908.02265",
            "co-attention between streams",
            (WIDTH, DROPOUT, replace(LAYERS, default=1), MANY_HEADS, EXPAND, INPUT_NORM),
            min_modalities=2,
        ),
        MethodEntry(
            "perceiver",
            "umecache.fusion.perceiver:Perceiver",
            "f = mean(Z),  Z = latents that attend to X, then to themselves, L times",
            "Jaegle et al., Perceiver, ICML 2021, arXiv:2103.03206",
            "a few learnt vectors read all tokens",
            (WIDTH, DROPOUT, LATENTS, replace(LAYERS, default=1), MANY_HEADS, EXPAND, INPUT_NORM),
        ),
        MethodEntry(
            "q-former",
            "umecache.fusion.q_former:QFormer",
            "f = mean(Q),  Q = queries that attend with the text, then to the image, L times",
            "Li et al., BLIP-2, ICML 2023, arXiv:2301.12597",
            "learnt queries read question and image",
            (WIDTH, DROPOUT, QUERIES, LAYERS, MANY_HEADS, EXPAND, INPUT_NORM),
            min_modalities=2,
        ),
    )
}
