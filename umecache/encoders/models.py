"""The table of encoders: one entry per model, a few lines each.

    umecache models        # prints it

To add an encoder of a known library: one entry below. To add one of another library: one file with a function
`build(entry, options, context) -> Encoder`, and one entry whose `builder` names it (docs/own-encoder.md). Builders are
strings until asked for, so that nothing here imports torch. `umecache.encoders.registry` turns a name into an entry and
an encoder.

A revision is pinned where its commit could be read in public sources (named beside it); elsewhere the hub's newest is
taken and its commit recorded in the store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from umecache.encoders.base import Encoder, EncoderOptions, LoadContext

TRANSFORMERS = "umecache.encoders.text:build_transformers"
LSTM = "umecache.encoders.lstm:build_lstm"
AUDIO = "umecache.encoders.audio:build_audio"
AUDIO_TYPES = frozenset(("wav2vec2", "hubert", "wavlm", "whisper"))  # transformers' model types that hear
TIMM = "umecache.encoders.image:build_timm"
VGG16 = "umecache.encoders.vgg:build_vgg16"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """What is known of an encoder before it is loaded.

    Attributes:
        name: how stores and messages call it.
        modality: what it reads.
        builder: "module:function", or the function; it is called as build(entry, options, context) -> Encoder.
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
    modality: Literal["text", "image", "audio"]
    builder: str | Callable[[ModelEntry, EncoderOptions, LoadContext], Encoder]
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


def text_entry(name: str, architecture: str, **facts: Any) -> ModelEntry:
    """A text encoder of transformers, at base size unless said otherwise."""
    defaults = {"modality": "text", "builder": TRANSFORMERS, "dim": 768, "licence": "Apache-2.0"}
    return ModelEntry(name=name, architecture=architecture, **{**defaults, **facts})


def image_entry(name: str, architecture: str, **facts: Any) -> ModelEntry:
    """An image encoder of timm."""
    defaults = {"modality": "image", "builder": TIMM, "licence": "Apache-2.0"}
    return ModelEntry(name=name, architecture=architecture, **{**defaults, **facts})


def audio_entry(name: str, architecture: str, **facts: Any) -> ModelEntry:
    """A sound encoder of transformers, at base size unless said otherwise."""
    defaults = {"modality": "audio", "builder": AUDIO, "dim": 768, "licence": "Apache-2.0"}
    return ModelEntry(name=name, architecture=architecture, **{**defaults, **facts})


_ENTRIES = (
    # Text: the thesis' own
    text_entry(
        "bert",
        "bert",
        repo="google-bert/bert-base-uncased",
        revision="86b5e0934494bd15c9632b12f734a8a67f723594",  # in public Grounded-SAM and MeloTTS set-ups
        tokens="[CLS], WordPiece, [SEP]; lower-cased",
        citation="Devlin et al., NAACL 2019, arXiv:1810.04805",
    ),
    text_entry(
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
    text_entry(
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
        licence="yours (trained by stage one)",
        citation="Antol et al., ICCV 2015, arXiv:1505.00468 (its two-layer 'LSTM Q')",
    ),
    # Text: others
    text_entry(
        "minilm",
        "bert",
        repo="sentence-transformers/all-MiniLM-L6-v2",
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",  # named as base revision in sentence-transformers cards
        dim=384,
        tokens="[CLS], WordPiece, [SEP]; lower-cased",
        citation="Wang et al., NeurIPS 2020, arXiv:2002.10957; Reimers & Gurevych, EMNLP 2019, arXiv:1908.10084",
        config={"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
    ),
    text_entry(
        "albert",
        "albert",
        repo="albert/albert-base-v2",
        revision="8e2f239c5f8a2c0f253781ca60135db913e5c80c",  # pinned by BridgeTower's tokenizer fixtures
        tokens="[CLS], SentencePiece, [SEP]; lower-cased",
        citation="Lan et al., ICLR 2020, arXiv:1909.11942",
        config={"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    ),
    text_entry(
        "distilbert",
        "distilbert",
        repo="distilbert/distilbert-base-uncased",
        revision="12040accade4e8a0f71eabdb258fecc2e7e948be",  # "pinned hub commit (2024-05-06)" in several projects
        tokens="[CLS], WordPiece, [SEP]; lower-cased",
        citation="Sanh et al., 2019, arXiv:1910.01108",
    ),
    text_entry(
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
    text_entry(
        "gpt2",
        "gpt2",
        repo="openai-community/gpt2",
        revision="607a30d783dfa663caf39e06633721c8d4cfcd7e",  # huggingface_hub's docs resolve main to it
        licence="MIT",
        tokens="byte-level BPE, causal: a token sees those before it",
        citation="Radford et al., 2019, 'Language models are unsupervised multitask learners'",
    ),
    text_entry(
        "t5",
        "t5",
        repo="google-t5/t5-base",
        revision="a9723ea7f1b39c1eae772870f3b547bf6ef7e6c1",  # pinned by Stable Audio Open and MusicGen set-ups
        tokens="SentencePiece, </s>; the encoder only",
        citation="Raffel et al., JMLR 2020, arXiv:1910.10683",
        config={"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
    ),
    text_entry(
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
    image_entry(
        "vgg16",
        "vgg16",
        builder=VGG16,
        repo="timm/vgg16.tv_in1k",
        dim=512,
        licence="BSD-3-Clause",
        tokens="7 x 7 at 224 px (the conv5 map)",
        citation="Simonyan & Zisserman, ICLR 2015, arXiv:1409.1556",
    ),
    image_entry(
        "vgg16-fc7",
        "vgg16",
        builder=VGG16,
        repo="timm/vgg16.tv_in1k",
        dim=4096,
        licence="BSD-3-Clause",
        tokens="one: the l2-normalised fc7 vector",
        citation="Simonyan & Zisserman, ICLR 2015, arXiv:1409.1556; 'norm I' of arXiv:1505.00468",
    ),
    image_entry(
        "vit",
        "vit_base_patch16_384",
        repo="timm/vit_base_patch16_384.augreg_in21k_ft_in1k",
        dim=768,
        tokens="CLS + 24 x 24 at 384 px",
        citation="Dosovitskiy et al., ICLR 2021, arXiv:2010.11929; Steiner et al., TMLR 2022, arXiv:2106.10270",
    ),
    image_entry(
        "beit",
        "beit_base_patch16_384",
        repo="timm/beit_base_patch16_384.in22k_ft_in22k_in1k",
        dim=768,
        tokens="CLS + 24 x 24 at 384 px",
        citation="Bao et al., ICLR 2022, arXiv:2106.08254",
    ),
    # Images: others
    image_entry(
        "mobilenetv2",
        "mobilenetv2_100",
        repo="timm/mobilenetv2_100.ra_in1k",
        dim=1280,
        tokens="7 x 7 at 224 px",
        citation="Sandler et al., CVPR 2018, arXiv:1801.04381",
    ),
    image_entry(
        "resnet50",
        "resnet50",
        repo="timm/resnet50.a1_in1k",
        revision="767268603ca0cb0bfe326fa87277f19c419566ef",  # pinned in a dozen public projects' weight manifests
        dim=2048,
        tokens="7 x 7 at 224 px",
        citation="He et al., CVPR 2016, arXiv:1512.03385; Wightman et al., 2021, arXiv:2110.00476",
    ),
    image_entry(
        "deit",
        "deit_base_patch16_224",
        repo="timm/deit_base_patch16_224.fb_in1k",
        dim=768,
        tokens="CLS + 14 x 14 at 224 px",
        citation="Touvron et al., ICML 2021, arXiv:2012.12877",
    ),
    image_entry(
        "swin",
        "swin_base_patch4_window7_224",
        repo="timm/swin_base_patch4_window7_224.ms_in22k_ft_in1k",
        dim=1024,
        licence="MIT",
        tokens="7 x 7 at 224 px",
        citation="Liu et al., ICCV 2021, arXiv:2103.14030",
    ),
    image_entry(
        "efficientnet",
        "efficientnet_b0",
        repo="timm/efficientnet_b0.ra_in1k",
        dim=1280,
        tokens="7 x 7 at 224 px",
        citation="Tan & Le, ICML 2019, arXiv:1905.11946",
    ),
    # Sounds
    audio_entry(
        "wav2vec2",
        "wav2vec2",
        repo="facebook/wav2vec2-base",
        tokens="one for 20 ms; 499 at 10 s",
        citation="Baevski et al., NeurIPS 2020, arXiv:2006.11477",
    ),
    audio_entry(
        "hubert",
        "hubert",
        repo="facebook/hubert-base-ls960",
        tokens="one for 20 ms; 499 at 10 s",
        citation="Hsu et al., IEEE/ACM TASLP 2021, arXiv:2106.07447",
    ),
    audio_entry(
        "wavlm",
        "wavlm",
        repo="microsoft/wavlm-base-plus",
        licence="CC-BY-SA-3.0",
        tokens="one for 20 ms; 499 at 10 s",
        citation="Chen et al., IEEE JSTSP 2022, arXiv:2110.13900",
    ),
    audio_entry(
        "whisper",
        "whisper",
        repo="openai/whisper-small",
        tokens="one for 20 ms; the encoder only, 30 s at most",
        citation="Radford et al., ICML 2023, arXiv:2212.04356",
        config={
            "d_model": 768,
            "encoder_layers": 12,
            "encoder_attention_heads": 12,
            "encoder_ffn_dim": 3072,
            "decoder_layers": 12,
            "decoder_attention_heads": 12,
            "decoder_ffn_dim": 3072,
            "vocab_size": 51865,
        },
    ),
    # The built-in sample's three small encoders
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
        name="sample-audio",
        modality="audio",
        builder="umecache.encoders.sample_audio:build_audio",
        dim=64,
        tokens="one for 100 ms",
        licence="Apache-2.0",
        citation="this project; a log-mel spectrogram, without weights",
    ),
    ModelEntry(
        name="sample-image",
        modality="image",
        builder="umecache.encoders.sample:build_image",
        dim=64,
        tokens="4 x 4 at 64 px",
        licence="Apache-2.0",
        citation="this project; trained on the sample's pictures alone",
    ),
)

MODELS: Mapping[str, ModelEntry] = {entry.name: entry for entry in _ENTRIES}
