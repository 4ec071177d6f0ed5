"""Names, references and folders become entries; wrong ones get a hint."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tests.encoders.checkpoints import write_checkpoint
from umecache.encoders import registry
from umecache.encoders.base import EncoderOptions
from umecache.encoders.models import LSTM, MODELS, TIMM, TRANSFORMERS
from umecache.encoders.registry import load_encoder, read_config, resolve
from umecache.errors import DataError, UmecacheError, UnknownName, UsageError
from umecache.stores import plugins


@pytest.mark.parametrize("name", list(MODELS))
def test_short_names(name: str) -> None:
    assert resolve(name) is MODELS[name]
    assert resolve(name, MODELS[name].modality) is MODELS[name]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("brt", "bert"),
        ("BERT", "bert"),
        ("rboerta", "roberta"),
        ("deberta", "deberta-v3"),
        ("debertav3", "deberta-v3"),
        ("vgg", "vgg16"),
        ("mobilenet", "mobilenetv2"),
        ("resnet", "resnet50"),
        ("lsmt", "lstm"),
    ],
)
def test_did_you_mean(typed: str, meant: str) -> None:
    with pytest.raises(UnknownName) as error:
        resolve(typed)
    assert repr(meant) in error.value.why
    assert error.value.exit_status == 2


def test_far_names_list_all() -> None:
    with pytest.raises(UnknownName) as error:
        resolve("zzzzzzzz")
    assert "Known:" in error.value.why
    assert "umecache models" in error.value.next


def test_hub_references() -> None:
    entry = resolve("hf:answerdotai/ModernBERT-base@abc123")
    assert (entry.modality, entry.builder) == ("text", TRANSFORMERS)
    assert (entry.repo, entry.revision) == ("answerdotai/ModernBERT-base", "abc123")
    assert resolve("hf:org/name").revision is None


@pytest.mark.parametrize("ref", ["timm:hf-hub:timm/x.in1k@v1", "timm:hf_hub:timm/x.in1k@v1", "hf:timm/x.in1k@v1"])
def test_hub_references_of_timm(ref: str) -> None:
    entry = resolve(ref)
    assert (entry.modality, entry.builder) == ("image", TIMM)
    assert (entry.repo, entry.revision) == ("timm/x.in1k", "v1")


def test_timm_names() -> None:
    entry = resolve("timm:convnext_tiny.fb_in1k")
    assert (entry.modality, entry.architecture, entry.repo) == ("image", "convnext_tiny.fb_in1k", None)


@pytest.mark.parametrize("ref", ["hf:", "hf:bert", "hf:a/b/c", "hf:../../etc", "timm:"])
def test_malformed_references(ref: str) -> None:
    with pytest.raises(UmecacheError):
        resolve(ref)


def test_a_hub_name_without_its_prefix() -> None:
    with pytest.raises(UnknownName, match="hf:microsoft/deberta-v3-base"):
        resolve("microsoft/deberta-v3-base")


def test_modality() -> None:
    with pytest.raises(UsageError) as error:
        resolve("vit", "text")
    assert "'vit' is an encoder of images, not of texts" in error.value.what
    assert "bert" in error.value.why


# Folders


def folder(path: Path, config: object) -> str:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    return str(path)


def test_folder_of_transformers(tmp_path: Path) -> None:
    entry = resolve(folder(tmp_path / "mine", {"model_type": "bert"}))
    assert (entry.name, entry.modality, entry.architecture) == ("mine", "text", "bert")
    assert entry.folder == (tmp_path / "mine").resolve()


def test_folder_of_timm(tmp_path: Path) -> None:
    entry = resolve(folder(tmp_path / "mine", {"architecture": "resnet18", "pretrained_cfg": {}}))
    assert (entry.name, entry.modality, entry.architecture, entry.builder) == ("mine", "image", "resnet18", TIMM)


def test_folder_of_a_trained_lstm(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "weights.safetensors").write_bytes(b"")
    assert resolve(str(tmp_path)).builder == LSTM


def test_relative_and_home_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "mine", {"model_type": "bert"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (
        resolve("mine").folder == resolve("./mine").folder == resolve("~/mine").folder == (tmp_path / "mine").resolve()
    )


def test_a_name_wins_over_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "bert", {"model_type": "gpt2"})
    monkeypatch.chdir(tmp_path)
    assert resolve("bert") is MODELS["bert"]
    assert resolve("./bert").architecture == "gpt2"


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "clip", "text_config": {}, "vision_config": {}},
        {"model_type": "llava", "text_config": {}, "vision_config": {}},
        {"model_type": "vilt"},
        {"model_cfg": {"embed_dim": 512, "vision_cfg": {}, "text_cfg": {}}},
    ],
)
def test_joint_models_are_refused(tmp_path: Path, config: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="joint text-and-image model"):
        resolve(folder(tmp_path, config))


@pytest.mark.parametrize("config", [{}, {"hidden_size": 3}])
def test_folders_that_name_nothing(tmp_path: Path, config: object) -> None:
    with pytest.raises(UsageError, match="names no architecture"):
        resolve(folder(tmp_path, config))


def test_folders_without_configuration(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    folder(tmp_path / "inner", {"model_type": "bert"})
    with pytest.raises(DataError, match=f"There is one in {tmp_path / 'inner'}"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("text", ["{", "[1]", "\x00"])
def test_malformed_configuration(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DataError):
        read_config(tmp_path)


def test_files_and_absent_folders(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="--weights"):
        resolve(str(tmp_path / "model.safetensors"))
    with pytest.raises(UsageError, match="There is no folder"):
        resolve(str(tmp_path / "nowhere"))


# Encoders of one's own


MINE = """
import torch
from umecache.encoders.base import EncoderOptions
from umecache.encoders.models import ModelEntry, text_entry
from umecache.encoders.tokens import HashedWords, TextEncoder

class Mine(TextEncoder):
    def __init__(self, entry):
        self.name, self.dim, self.vocab_size = entry.name, 3, 100
        self.tokenizer, self.module = HashedWords(100), torch.nn.Identity()
        self.recipe, self.origin = {"weights_sha256": "0" * 64, "layers": "last"}, {}
    def encode(self, batch):
        return batch["input_ids"][..., None].expand(-1, -1, 3).float()

def build(entry, options, context):
    return Mine(entry)

FACTS = dict(modality="text", dim=3, tokens="words", licence="mine", citation="none")
ENTRY = ModelEntry(name="mine", builder=build, **FACTS)
WRONG = ModelEntry(name="wrong", builder=lambda *_: 7, **FACTS)
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def test_an_entry_in_a_file(mine: Path) -> None:
    encoder = load_encoder(f"{mine}:ENTRY")
    assert (encoder.name, encoder.dim) == ("mine", 3)
    assert encoder.encode(encoder.collate(encoder.prepare_many(["a b", "c"]))).shape == (2, 4, 3)


def test_wrong_entries_in_a_file(mine: Path) -> None:
    with pytest.raises(UsageError, match="gave a int"):
        load_encoder(f"{mine}:WRONG")
    with pytest.raises(UsageError, match="Its entries: ENTRY, WRONG"):
        resolve(f"{mine}:NTRY")
    with pytest.raises(UsageError, match="is no model"):
        resolve(f"{mine}:FACTS")
    with pytest.raises(UsageError, match="names a file but no entry"):
        resolve(str(mine) + ":")
    with pytest.raises(UsageError, match="There is no file"):
        resolve("./nowhere.py:ENTRY")


def test_entries_of_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("offered", "umecache.encoders.models:MODELS", registry.ENTRY_POINTS)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "umecache.encoders" else [])
    assert registry.offered_models() == {"offered": point}
    with pytest.raises(UsageError, match="is no model"):
        resolve("offered")
    with pytest.raises(UnknownName, match="'offered'"):
        resolve("offerd")


# Loading


def test_load_takes_defaults(tmp_path: Path) -> None:
    reference = str(write_checkpoint(tmp_path, "bert"))
    assert load_encoder(reference).recipe == load_encoder(reference, EncoderOptions()).recipe


def test_resolving_loads_no_torch() -> None:
    code = """
import sys
from umecache.encoders.registry import resolve
resolve("bert"); resolve("timm:x"); resolve("hf:a/b")
assert not {"torch", "transformers", "timm", "numpy"} & set(sys.modules), sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# The page


DOCS = Path(__file__).parents[2] / "docs" / "encoders.md"


def test_the_page_lists_the_table() -> None:
    rows = [line.split("|") for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    listed = {name.strip().strip("`"): row for row in rows for name in row[1].split(",")}
    for name, entry in MODELS.items():
        row = listed[name]
        assert row[2].strip() == str(entry.dim)
        assert entry.repo is None or row[4].strip() == entry.repo
        assert entry.licence in row[5] or name == "lstm"
        size = entry.tokens.partition(" (")[0]
        assert entry.modality == "text" or "one" in size or size in row[3], name


def test_the_page_has_examples_that_run(tmp_path: Path) -> None:
    blocks = DOCS.with_name("own-encoder.md").read_text().split("```python\n")[1:]
    for number, block in enumerate(blocks):
        (tmp_path / f"mine{number}.py").write_text(block.split("```")[0])
    entry = resolve(f"{tmp_path / 'mine0.py'}:ENTRY")
    assert (entry.repo, entry.builder) == ("answerdotai/ModernBERT-base", TRANSFORMERS)
    encoder = load_encoder(f"{tmp_path / 'mine1.py'}:ENTRY")
    batch = encoder.collate(encoder.prepare_many(["abc", ""]))
    assert encoder.encode(batch).shape == (2, 3, 64)
    assert load_encoder(f"{tmp_path / 'mine1.py'}:ENTRY", EncoderOptions(seed=1)).recipe != encoder.recipe
