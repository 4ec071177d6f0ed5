"""The table of models says what is true of the architectures."""

from __future__ import annotations

import re
from pkgutil import resolve_name

import pytest

from umecache.encoders.models import MODELS, TRANSFORMERS, ModelEntry

THESIS = {"bert", "roberta", "deberta-v3", "lstm", "vgg16", "vgg16-fc7", "vit", "beit"}
OTHERS = {"albert", "distilbert", "electra", "gpt2", "t5", "xlnet", "resnet50", "deit", "swin", "efficientnet"}
RUN_HERE = {"minilm", "mobilenetv2", "sample-text", "sample-image", "sample-audio"}
SOUNDS = {"wav2vec2", "hubert", "wavlm", "whisper"}
entries = pytest.mark.parametrize("entry", MODELS.values(), ids=lambda entry: entry.name)


def test_every_promised_name() -> None:
    assert set(MODELS) == THESIS | OTHERS | RUN_HERE | SOUNDS


@entries
def test_entry_is_complete(entry: ModelEntry) -> None:
    assert MODELS[entry.name] is entry
    assert entry.slug == entry.name
    assert entry.dim is not None
    assert entry.dim > 0
    assert entry.tokens
    assert entry.licence
    assert entry.citation
    assert entry.repo is None or re.fullmatch(r"[\w.-]+/[\w.-]+", entry.repo)


@entries
def test_revisions_are_commits(entry: ModelEntry) -> None:
    assert entry.revision is None or (entry.repo is not None and re.fullmatch(r"[0-9a-f]{40}", entry.revision))


@pytest.mark.parametrize("builder", sorted({str(entry.builder) for entry in MODELS.values()}))
def test_builders_exist(builder: str) -> None:
    assert callable(resolve_name(builder))


@pytest.mark.parametrize("entry", [e for e in MODELS.values() if e.builder == TRANSFORMERS], ids=lambda e: e.name)
def test_sizes_of_text_models(entry: ModelEntry) -> None:
    """The configuration that random weights get has the width that the table says, at base depth."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(entry.architecture, **entry.config)
    assert config.hidden_size == entry.dim
    assert config.num_hidden_layers == {"minilm": 6, "distilbert": 6}.get(entry.name, 12)
    assert config.num_attention_heads == 12


PARAMETERS = {  # millions, of the encoder alone; from the papers' tables and model cards, to their precision
    "bert": (109, 1),
    "roberta": (124, 1),
    "deberta-v3": (184, 1),  # "86M backbone parameters", 98M in the embeddings
    "minilm": (22.6, 0.3),
    "albert": (11, 1),
    "distilbert": (66, 1),
    "electra": (109, 1),
    "gpt2": (124, 1),
    "t5": (110, 1),
    "xlnet": (117, 1),
}


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_parameter_counts(name: str) -> None:
    """Counted without memory: on torch's meta device."""
    import torch
    from transformers import MODEL_MAPPING, AutoConfig, T5EncoderModel

    entry = MODELS[name]
    config = AutoConfig.for_model(entry.architecture, **entry.config)
    model_class = T5EncoderModel if name == "t5" else MODEL_MAPPING[type(config)]
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in model_class(config).parameters()) / 1e6
    expected, tolerance = PARAMETERS[name]
    assert count == pytest.approx(expected, abs=tolerance)


def test_slug_is_a_folder_name() -> None:
    entry = ModelEntry(
        name="hf:org/na me@main", modality="text", builder="", dim=None, tokens="", licence="", citation=""
    )
    assert entry.slug == "hf-org-na-me-main"
