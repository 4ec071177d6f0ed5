"""The encoders that can be named, and how a name becomes an encoder.

    umecache models                               # this table
    load_encoder("bert")                          # a short name
    load_encoder("hf:answerdotai/ModernBERT-base")  # any text model of the hub that transformers knows
    load_encoder("timm:convnext_tiny.fb_in1k")    # any image model of timm
    load_encoder("../checkpoints/my-bert")        # a local folder with a config.json

To add an encoder of a known library: one entry in `MODELS`. To add one of another library: one file with a function
`build(entry, options, context) -> Encoder`, and one entry whose `builder` names it. Builders are strings until asked
for, so that nothing here imports torch.

A revision is pinned where its commit could be read in public sources (named beside it); elsewhere the hub's newest is
taken and its commit recorded in the store.
"""

from __future__ import annotations

import json
import os
import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from umecache.errors import DataError, UnknownName, UsageError

if TYPE_CHECKING:
    from umecache.encoders.base import Encoder, EncoderOptions, LoadContext

TRANSFORMERS = "umecache.encoders.text:build_transformers"
LSTM = "umecache.encoders.lstm:build_lstm"
TIMM = "umecache.encoders.image:build_timm"
VGG16 = "umecache.encoders.vgg:build_vgg16"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """What is known of an encoder before it is loaded.

    Attributes:
        name: how stores and messages call it.
        modality: what it reads.
        builder: "module:function"; the function is called as build(entry, options, context) -> Encoder.
        architecture: transformers' model type, or timm's model name; "" where the files say it.
        repo: its hub repository, None where it has none.
        revision: a pinned commit of `repo`; None takes the newest and records its commit.
        dim: D, the width of the hidden states; None until the files are read.
        tokens: what the tokens are, in words.
        licence: SPDX name, of the weights.
        citation: authors, venue, arXiv number.
        config: configuration values that differ from the architecture's defaults. They make `--weights random` and a
            bare weights file the real size; a checkpoint folder brings its own.
        folder: the local folder that a reference named.
    """

    name: str
    modality: Literal["text", "image"]
    builder: str
    architecture: str = ""
    repo: str | None = None
    revision: str | None = None
    dim: int | None
    tokens: str
    licence: str
    citation: str
    config: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def slug(self) -> str:
        """The name as part of a folder name."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip("-.") or "model"


def _text(name: str, architecture: str, **facts: Any) -> ModelEntry:
    """A text encoder of transformers, at base size unless said otherwise."""
    defaults = {"modality": "text", "builder": TRANSFORMERS, "dim": 768, "licence": "Apache-2.0"}
    return ModelEntry(name=name, architecture=architecture, **{**defaults, **facts})


def _image(name: str, architecture: str, **facts: Any) -> ModelEntry:
    """An image encoder of timm."""
    defaults = {"modality": "image", "builder": TIMM, "licence": "Apache-2.0"}
    return ModelEntry(name=name, architecture=architecture, **{**defaults, **facts})


_ENTRIES = (
    # Text: the thesis' own
    _text(
        "bert",
        "bert",
        repo="google-bert/bert-base-uncased",
        revision="86b5e0934494bd15c9632b12f734a8a67f723594",  # snapshot pinned by Grounded-SAM and MeloTTS set-ups
        tokens="[CLS], WordPiece, [SEP]; lower-cased",
        citation="Devlin et al., NAACL 2019, arXiv:1810.04805",
    ),
    _text(
        "roberta",
        "roberta",
        repo="FacebookAI/roberta-base",
        revision="e2da8e2f811d1448a5b465c236feacd80ffbac7b",  # pinned by LAION-CLAP and MeanAudio evaluations
        licence="MIT",
        tokens="<s>, byte-level BPE, </s>",
        citation="Liu et al., 2019, arXiv:1907.11692",
        config={
            "vocab_size": 50265,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
        },
    ),
    _text(
        "deberta-v3",
        "deberta-v2",
        repo="microsoft/deberta-v3-base",
        revision="8ccc9b6f36199bec6961081d44eb72fb3f7353f3",  # pinned by GLiNER v2.1 deployments (spm.model and config)
        licence="MIT",
        tokens="[CLS], SentencePiece, [SEP]",
        citation="He et al., ICLR 2023, arXiv:2111.09543",
        config={
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "relative_attention": True,
            "position_buckets": 256,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": "p2c|c2p",
            "position_biased_input": False,
        },
    ),
    ModelEntry(
        name="lstm",
        modality="text",
        builder=LSTM,
        dim=512,
        tokens="one per word or punctuation mark; lower-cased",
        licence="yours: trained by stage one on the train split's questions",
        citation="Antol et al., ICCV 2015, arXiv:1505.00468 (its two-layer 'LSTM Q')",
    ),
    # Text: others
    _text(
        "minilm",
        "bert",
        repo="sentence-transformers/all-MiniLM-L6-v2",
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",  # named as base revision in sentence-transformers cards
        dim=384,
        tokens="[CLS], WordPiece, [SEP]; lower-cased",
        citation="Wang et al., NeurIPS 2020, arXiv:2002.10957; Reimers & Gurevych, EMNLP 2019, arXiv:1908.10084",
        config={"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
    ),
    _text(
        "albert",
        "albert",
        repo="albert/albert-base-v2",
        revision="8e2f239c5f8a2c0f253781ca60135db913e5c80c",  # pinned by BridgeTower's tokenizer fixtures
        tokens="[CLS], SentencePiece, [SEP]; lower-cased",
        citation="Lan et al., ICLR 2020, arXiv:1909.11942",
        config={"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    ),
    _text(
        "distilbert",
        "distilbert",
        repo="distilbert/distilbert-base-uncased",
        revision="12040accade4e8a0f71eabdb258fecc2e7e948be",  # "pinned hub commit (2024-05-06)" in several projects
        tokens="[CLS], WordPiece, [SEP]; lower-cased",
        citation="Sanh et al., 2019, arXiv:1910.01108",
    ),
    _text(
        "electra",
        "electra",
        repo="google/electra-base-discriminator",
        tokens="[CLS], WordPiece, [SEP]; lower-cased",
        citation="Clark et al., ICLR 2020, arXiv:2003.10555",
        config={
            "embedding_size": 768,
            "hidden_size": 768,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
        },
    ),
    _text(
        "gpt2",
        "gpt2",
        repo="openai-community/gpt2",
        revision="607a30d783dfa663caf39e06633721c8d4cfcd7e",  # huggingface_hub's documentation resolves main to it
        licence="MIT",
        tokens="byte-level BPE, causal: a token sees those before it",
        citation="Radford et al., 2019, 'Language models are unsupervised multitask learners'",
    ),
    _text(
        "t5",
        "t5",
        repo="google-t5/t5-base",
        revision="a9723ea7f1b39c1eae772870f3b547bf6ef7e6c1",  # pinned by Stable Audio Open and MusicGen set-ups
        tokens="SentencePiece, </s>; the encoder only",
        citation="Raffel et al., JMLR 2020, arXiv:1910.10683",
        config={"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
    ),
    _text(
        "xlnet",
        "xlnet",
        repo="xlnet/xlnet-base-cased",
        revision="ceaa69c7bc5e512b5007106a7ccbb7daf24b2c79",  # the cached snapshot in two public training logs
        licence="MIT",
        tokens="SentencePiece, <sep>, <cls>",
        citation="Yang et al., NeurIPS 2019, arXiv:1906.08237",
        config={"d_model": 768, "n_layer": 12, "n_head": 12, "d_inner": 3072},
    ),
    # Images: the thesis' own
    _image(
        "vgg16",
        "vgg16",
        builder=VGG16,
        repo="timm/vgg16.tv_in1k",
        dim=512,
        licence="BSD-3-Clause",
        tokens="7 x 7 at 224 px (the conv5 map)",
        citation="Simonyan & Zisserman, ICLR 2015, arXiv:1409.1556",
    ),
    _image(
        "vgg16-fc7",
        "vgg16",
        builder=VGG16,
        repo="timm/vgg16.tv_in1k",
        dim=4096,
        licence="BSD-3-Clause",
        tokens="one: the l2-normalised fc7 vector",
        citation="Simonyan & Zisserman, ICLR 2015, arXiv:1409.1556; 'norm I' of arXiv:1505.00468",
    ),
    _image(
        "vit",
        "vit_base_patch16_384",
        repo="timm/vit_base_patch16_384.augreg_in21k_ft_in1k",
        dim=768,
        tokens="CLS + 24 x 24 at 384 px",
        citation="Dosovitskiy et al., ICLR 2021, arXiv:2010.11929; Steiner et al., TMLR 2022, arXiv:2106.10270",
    ),
    _image(
        "beit",
        "beit_base_patch16_384",
        repo="timm/beit_base_patch16_384.in22k_ft_in22k_in1k",
        dim=768,
        tokens="CLS + 24 x 24 at 384 px",
        citation="Bao et al., ICLR 2022, arXiv:2106.08254",
    ),
    # Images: others
    _image(
        "mobilenetv2",
        "mobilenetv2_100",
        repo="timm/mobilenetv2_100.ra_in1k",
        dim=1280,
        tokens="7 x 7 at 224 px",
        citation="Sandler et al., CVPR 2018, arXiv:1801.04381",
    ),
    _image(
        "resnet50",
        "resnet50",
        repo="timm/resnet50.a1_in1k",
        revision="767268603ca0cb0bfe326fa87277f19c419566ef",  # pinned in a dozen public projects' weight manifests
        dim=2048,
        tokens="7 x 7 at 224 px",
        citation="He et al., CVPR 2016, arXiv:1512.03385; Wightman et al., 2021, arXiv:2110.00476",
    ),
    _image(
        "deit",
        "deit_base_patch16_224",
        repo="timm/deit_base_patch16_224.fb_in1k",
        dim=768,
        tokens="CLS + 14 x 14 at 224 px",
        citation="Touvron et al., ICML 2021, arXiv:2012.12877",
    ),
    _image(
        "swin",
        "swin_base_patch4_window7_224",
        repo="timm/swin_base_patch4_window7_224.ms_in22k_ft_in1k",
        dim=1024,
        licence="MIT",
        tokens="7 x 7 at 224 px",
        citation="Liu et al., ICCV 2021, arXiv:2103.14030",
    ),
    _image(
        "efficientnet",
        "efficientnet_b0",
        repo="timm/efficientnet_b0.ra_in1k",
        dim=1280,
        tokens="7 x 7 at 224 px",
        citation="Tan & Le, ICML 2019, arXiv:1905.11946",
    ),
    # The built-in sample's two small encoders
    ModelEntry(
        name="sample-text",
        modality="text",
        builder="umecache.encoders.sample:build_text",
        dim=64,
        tokens="one per word",
        licence="Apache-2.0",
        citation="this project; trained on the sample's questions alone",
    ),
    ModelEntry(
        name="sample-image",
        modality="image",
        builder="umecache.encoders.sample:build_image",
        dim=64,
        tokens="6 x 6 at 96 px",
        licence="Apache-2.0",
        citation="this project; trained on the sample's pictures alone",
    ),
)

MODELS: Mapping[str, ModelEntry] = {entry.name: entry for entry in _ENTRIES}

_JOINT_TYPES = {"vilt", "visual_bert", "lxmert", "bridgetower", "chinese_clip", "layoutlmv2", "layoutlmv3", "uniter"}


def resolve(ref: str, modality: str | None = None) -> ModelEntry:
    """The entry that `ref` names: a short name, `hf:ORG/NAME[@REVISION]`, `timm:NAME` or a local folder.

    Args:
        modality: refuse an encoder of another one.

    Raises:
        UnknownName: no such short name; says the nearest.
        UsageError: no such folder, or a model that isn't an encoder of one modality.
    """
    entry = _resolve(ref)
    if modality is not None and entry.modality != modality:
        fitting = ", ".join(name for name, known in MODELS.items() if known.modality == modality)
        raise UsageError(
            f"{ref!r} is an encoder of {_plural(entry.modality)}, not of {_plural(modality)}.",
            why=f"Encoders of {_plural(modality)}: {fitting}.",
            next="umecache models",
        )
    return entry


def load_encoder(ref: str, options: EncoderOptions | None = None, context: LoadContext | None = None) -> Encoder:
    """Load the encoder that `ref` names, frozen, on the CPU.

    Raises:
        UmecacheError: an unknown name, missing files, weights that don't fit, options that can't be.
    """
    from umecache.encoders.base import EncoderOptions, LoadContext

    entry = resolve(ref)
    encoder: Encoder = pkgutil.resolve_name(entry.builder)(entry, options or EncoderOptions(), context or LoadContext())
    return encoder


def refuse_joint(config: Mapping[str, Any], source: str) -> None:
    """Raise UsageError if a model's configuration is of one that reads text and images together."""
    kind = str(config.get("model_type") or config.get("architecture") or "model")
    joint = "vision_config" in config and "text_config" in config
    if joint or "model_cfg" in config or kind in _JOINT_TYPES:  # model_cfg: OpenCLIP
        raise UsageError(
            f"{source} is a joint text-and-image model ({kind}).",
            why="umecache caches encoders of one modality each and learns their fusion.",
            next="umecache models",
        )


def _plural(modality: str) -> str:
    return {"text": "texts", "image": "images"}.get(modality, modality)


def _resolve(ref: str) -> ModelEntry:
    if ref in MODELS:
        return MODELS[ref]
    prefix, _, rest = ref.partition(":")
    if prefix == "hf" and rest:
        return _hub_entry(ref, rest)
    if prefix == "timm" and rest:
        return _timm_entry(ref, rest)
    path = Path(ref).expanduser()
    if path.is_dir():
        return _folder_entry(path)
    if path.is_file():
        raise UsageError(
            f"{ref} is a file; a model is a name or a folder.",
            why="A weights file does not say which architecture it is for.",
            next=f"umecache extract --model NAME --weights {ref}",
        )
    if ref.startswith((".", "~", os.sep)) or ref.count("/") > 1:
        raise UsageError(f"There is no folder {ref}.", next="umecache models")
    if "/" in ref:
        raise UnknownName("model", ref, [f"hf:{ref}", f"timm:hf-hub:{ref}"], listing="umecache models")
    raise UnknownName("model", ref, MODELS, listing="umecache models")


def _hub_entry(ref: str, rest: str) -> ModelEntry:
    repo, _, revision = rest.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise UsageError(f"{ref!r} names no hub repository.", why="It is written hf:ORG/NAME.", next="umecache models")
    if repo.startswith("timm/"):  # the hub's timm repositories hold timm checkpoints
        return _timm_entry(ref, f"hf-hub:{rest}")
    facts = {"dim": None, "tokens": "as its tokenizer makes them", "licence": "see its model card"}
    citation = f"https://huggingface.co/{repo}"
    return _text(ref, "", repo=repo, revision=revision or None, citation=citation, **facts)


def _timm_entry(ref: str, rest: str) -> ModelEntry:
    facts: dict[str, Any] = {"dim": None, "tokens": "as its forward_features gives", "licence": "see its model card"}
    for hub in ("hf-hub:", "hf_hub:"):
        if rest.startswith(hub):
            repo, _, revision = rest.removeprefix(hub).partition("@")
            facts |= {"repo": repo, "revision": revision or None, "citation": f"https://huggingface.co/{repo}"}
            return _image(ref, "", **facts)
    return _image(ref, rest, citation=f"timm, {rest}", **facts)


def _folder_entry(folder: Path) -> ModelEntry:
    """A checkpoint folder: what its config.json declares decides the library."""
    folder = folder.resolve()
    facts: dict[str, Any] = {"dim": None, "licence": "unknown", "citation": "unknown", "folder": folder}
    if (folder / "vocab.json").is_file() and (folder / "weights.safetensors").is_file():
        return ModelEntry(name=folder.name, modality="text", builder=LSTM, tokens=MODELS["lstm"].tokens, **facts)
    config = read_config(folder)
    refuse_joint(config, str(folder))
    if config.get("architecture"):
        return _image(folder.name, str(config["architecture"]), tokens="as its forward_features gives", **facts)
    if config.get("model_type"):
        return _text(folder.name, str(config["model_type"]), tokens="as its tokenizer makes them", **facts)
    raise UsageError(
        f"{folder / 'config.json'} names no architecture.",
        why='It needs "model_type" (transformers) or "architecture" (timm).',
        next="umecache models",
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json.

    Raises:
        DataError: it is missing, malformed, or no object.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near: Iterable[Path] = sorted(folder.glob("*/config.json"))
        hint = f" There is one in {next(iter(near)).parent}." if near else ""
        raise DataError(
            f"{folder} holds no config.json, so it is no model folder.{hint}",
            why="transformers and timm both save one beside the weights.",
            next="umecache models",
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as JSON: {error}.", next="umecache models") from None
    if not isinstance(config, dict):
        raise DataError(f"{path} holds no JSON object.", next="umecache models")
    return config
