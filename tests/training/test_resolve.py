"""Which stores a run reads, and those it refuses."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from umecache.data.dataset import open_dataset
from umecache.errors import UmecacheError, UsageError
from umecache.stores import open_store
from umecache.stores.errors import StoreIncomplete, StoreMismatch, StoreMissing
from umecache.training.resolve import Source, find_sources


def find(world: Any, *, limit: int | None = None, **said: Any) -> tuple[Source, ...]:
    dataset = open_dataset(world.data)
    splits = [dataset.split(name, limit=limit) for name in ("train", "val")]
    return find_sources(dataset, splits, limit=limit, **said)


def both(world: Any) -> dict[str, str]:
    return {"text": str(world.text), "image": str(world.image)}


def at_home(world: Any, home: Path, *, text: str = "bert-00000000", image: str = "vit-00000000") -> Path:
    """The world's stores where `extract` puts them."""
    stores = home / "stores" / "world"
    shutil.copytree(world.text, stores / text)
    shutil.copytree(world.image, stores / image)
    return stores


def test_folders_with_a_store_per_split(world: Any) -> None:
    text, image = find(world, **both(world))
    assert (text.name, text.model, text.by_image, text.dim) == ("text", "bert", False, 8)
    assert (image.name, image.model, image.by_image, image.dim) == ("image", "vit", True, 12)
    assert text.paths["val"] == world.text / "val"
    split = open_dataset(world.data).split("val")
    assert image.ids(split).tolist() == [question.image_id for question in split.questions]
    facts = image.facts()
    assert facts["stores"]["val"]["fingerprint"] == image.stores["val"].fingerprint  # type: ignore[index, call-overload]


def test_one_store_may_serve_both_splits(world: Any, kit: Any, tmp_path: Path) -> None:
    records = [*world.splits["train"], *world.splits["val"]]
    path = kit.store(tmp_path / "all", "image", kit.image_items(records))
    _, image = find(world, text=str(world.text), image=str(path))
    assert image.stores["train"] is image.stores["val"]


def test_with_nothing_said_the_only_stores_are_taken(world: Any, private_home: Path) -> None:
    stores = at_home(world, private_home)
    text, image = find(world)
    assert text.paths["train"] == stores / "bert-00000000" / "train"
    assert image.paths["train"] == stores / "vit-00000000" / "train"


def test_a_model_s_short_name_is_enough(world: Any, private_home: Path) -> None:
    stores = at_home(world, private_home)
    shutil.copytree(world.text, stores / "roberta-11111111")
    text, _ = find(world, text="roberta")
    assert text.paths["val"] == stores / "roberta-11111111" / "val"


def test_several_stores_are_listed_with_the_flag(world: Any, private_home: Path, kit: Any) -> None:
    stores = at_home(world, private_home)
    for name in ("train", "val"):
        kit.store(
            stores / "roberta-1" / name,
            "text",
            kit.text_items(world.splits[name]),
            model="roberta",
            digests=kit.text_digests(world.splits[name]),
        )
    with pytest.raises(UsageError) as refused:
        find(world)
    assert "bert, roberta" in refused.value.what
    assert refused.value.next == "--text bert or --text roberta"


def test_two_recipes_of_one_model_are_told_apart_by_folder(world: Any, private_home: Path) -> None:
    stores = at_home(world, private_home)
    shutil.copytree(world.text, stores / "bert-22222222")
    for said in (None, "bert"):
        with pytest.raises(UsageError) as refused:
            find(world, text=said)
        assert "--text bert-00000000 or --text bert-22222222" in refused.value.next
    assert find(world, text="bert-22222222")[0].paths["val"].parent.name == "bert-22222222"


def test_no_store_gives_the_command_that_makes_one(world: Any) -> None:
    with pytest.raises(StoreMissing, match="no text store") as refused:
        find(world)
    assert refused.value.next.startswith("umecache extract --model")
    assert str(world.data) in refused.value.next
    with pytest.raises(StoreMissing, match="of roberta") as refused:
        find(world, text="roberta")
    assert "--model roberta" in refused.value.next


def test_what_is_there_under_another_name_or_limit_is_told(world: Any, private_home: Path) -> None:
    stores = at_home(world, private_home)
    with pytest.raises(StoreMissing) as refused:
        find(world, text="roberta")
    assert "There are: bert-00000000" in refused.value.why
    stores.rename(stores.with_name(f"{stores.name}-first200"))
    with pytest.raises(StoreMissing) as refused:
        find(world)
    assert "There are stores of its first questions: --limit 200." in refused.value.why


def test_a_model_from_a_file_of_one_s_own_is_found_as_it_was_called(world: Any, private_home: Path) -> None:
    stores = at_home(world, private_home)
    shutil.copytree(world.text, stores / "mine.py--ENTRY-33333333")
    for said in ("./mine.py:ENTRY", "mine.py:ENTRY"):
        assert find(world, text=said)[0].paths["val"].parent.name == "mine.py--ENTRY-33333333"


def test_a_path_that_isn_t_there(world: Any, tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match="No store at"):
        find(world, text=str(tmp_path / "nowhere"))


def test_a_split_that_wasn_t_extracted(world: Any, tmp_path: Path) -> None:
    shutil.copytree(world.text / "train", tmp_path / "bert" / "train")
    with pytest.raises(StoreMissing, match="no store of the split 'val'") as refused:
        find(world, text=str(tmp_path / "bert"), image=str(world.image))
    assert "--split val" in refused.value.next


def test_limits_find_their_own_stores_or_those_of_the_whole(world: Any, private_home: Path, kit: Any) -> None:
    stores = at_home(world, private_home)
    assert find(world, limit=30)[0].paths["train"] == stores / "bert-00000000" / "train"
    first = private_home / "stores" / "world-first30"
    shutil.copytree(stores, first)
    assert find(world, limit=30)[0].paths["train"] == first / "bert-00000000" / "train"


def test_a_store_of_fewer_questions_is_refused_with_count_and_ids(world: Any, kit: Any, tmp_path: Path) -> None:
    for name in ("train", "val"):
        records = world.splits[name][5:] if name == "train" else world.splits[name]
        kit.store(tmp_path / "bert" / name, "text", kit.text_items(records), digests=kit.text_digests(records))
    with pytest.raises(StoreMismatch) as refused:
        find(world, text=str(tmp_path / "bert"), image=str(world.image))
    absent = sorted(record["question_id"] for record in world.splits["train"][:5])
    assert "5 of 180 questions" in refused.value.what
    assert f"first: {absent[0]}, {absent[1]}, {absent[2]}, ..." in refused.value.what
    assert "175 inputs" in refused.value.why
    assert "umecache extract --model bert" in refused.value.next


def test_a_store_of_other_questions_under_the_same_ids_is_refused(world: Any, kit: Any, tmp_path: Path) -> None:
    for name in ("train", "val"):
        records = [{**record, "question": record["question"] + " here"} for record in world.splits[name]]
        kit.store(tmp_path / "bert" / name, "text", kit.text_items(records), digests=kit.text_digests(records))
    with pytest.raises(StoreMismatch, match="other questions"):
        find(world, text=str(tmp_path / "bert"), image=str(world.image))


def test_image_files_are_compared_where_they_are_at_hand(world: Any, kit: Any, tmp_path: Path) -> None:
    data = tmp_path / "world"
    shutil.copytree(world.data, data)
    images = sorted({record["image_id"] for record in world.splits["train"]})
    for image in images[:20]:
        (data / "images" / f"{image}.png").write_bytes(b"picture %d" % image)
    told = {image: hashlib.sha256(b"picture %d" % image).hexdigest() for image in images}
    kit.store(tmp_path / "vit" / "train", "image", kit.image_items(world.splits["train"]), digests=told)
    kit.store(tmp_path / "vit" / "val", "image", kit.image_items(world.splits["val"]))
    moved = SimpleNamespace(data=data)
    assert find(moved, text=str(world.text), image=str(tmp_path / "vit"))
    with pytest.raises(StoreMismatch, match="holds other images under the ids"):
        find(moved, text=str(world.text), image=str(world.image))


def test_images_on_the_failure_list_are_accepted_and_others_are_not(world: Any, kit: Any, tmp_path: Path) -> None:
    records = world.splits["val"]
    lost = sorted({record["image_id"] for record in records})[:2]
    shutil.copytree(world.image / "train", tmp_path / "vit" / "train")
    kit.store(tmp_path / "vit" / "val", "image", kit.image_items(records, missing=lost))
    _, image = find(world, text=str(world.text), image=str(tmp_path / "vit"))
    assert sorted(image.stores["val"].failures) == lost
    kept = [record for record in records if record["image_id"] not in lost]
    shutil.rmtree(tmp_path / "vit" / "val")
    kit.store(tmp_path / "vit" / "val", "image", kit.image_items(kept))
    with pytest.raises(StoreMismatch, match=f"2 of 24 images.*first: {lost[0]}, {lost[1]}"):
        find(world, text=str(world.text), image=str(tmp_path / "vit"))


def test_an_unfinished_store_is_refused(world: Any, kit: Any, tmp_path: Path) -> None:
    shutil.copytree(world.text / "train", tmp_path / "bert" / "train")
    kit.store(tmp_path / "bert" / "val", "text", kit.text_items(world.splits["val"]), seal=False)
    with pytest.raises(StoreIncomplete):
        find(world, text=str(tmp_path / "bert"), image=str(world.image))


def test_an_unfinished_store_by_name_is_refused_too(world: Any, private_home: Path, kit: Any) -> None:
    stores = private_home / "stores" / "world"
    kit.store(stores / "bert-00000000" / "train", "text", kit.text_items(world.splits["train"]), seal=False)
    for said in (None, "bert"):
        with pytest.raises(StoreIncomplete):
            find(world, text=said, image=str(world.image))


def test_an_unfinished_store_of_the_other_modality_is_not_in_the_way(world: Any, private_home: Path, kit: Any) -> None:
    stores = private_home / "stores" / "world"
    kit.store(stores / "vit-00000000" / "train", "image", kit.image_items(world.splits["train"]), seal=False)
    with pytest.raises(StoreMissing, match="no text store"):
        find(world)


def test_a_store_of_the_other_modality_is_refused(world: Any) -> None:
    with pytest.raises(StoreMismatch, match="--text names a store of image features") as refused:
        find(world, text=str(world.image), image=str(world.image))
    assert refused.value.next.startswith("--image ")


def test_stores_made_otherwise_than_the_recipe_says_are_refused(world: Any) -> None:
    made = open_store(world.image / "train").manifest["recipe"]
    find(world, **both(world), facts={"image": made})
    with pytest.raises(StoreMismatch, match=r"image_size: .* in the store, 384 in the recipe.*umecache extract"):
        find(world, **both(world), facts={"image": {"image_size": 384}})


def test_splits_of_different_encoders_are_refused(world: Any, kit: Any, tmp_path: Path) -> None:
    shutil.copytree(world.text / "train", tmp_path / "bert" / "train")
    records = world.splits["val"]
    other = {"weights_sha256": "1" * 64, "layers": "-2"}
    kit.store(
        tmp_path / "bert" / "val", "text", kit.text_items(records), recipe=other, digests=kit.text_digests(records)
    )
    with pytest.raises(StoreMismatch, match="made differently") as refused:
        find(world, text=str(tmp_path / "bert"), image=str(world.image))
    assert "layers" in refused.value.why and "weights_sha256" in refused.value.why


def test_ids_of_text_are_refused(world: Any, kit: Any, tmp_path: Path) -> None:
    items = {f"image-{n}": np.ones((2, 12), np.float32) for n in range(4)}
    path = kit.store(tmp_path / "vit", "image", items)
    with pytest.raises(StoreMismatch, match="keyed by text"):
        find(world, text=str(world.text), image=str(path))


def test_any_number_of_modalities(world: Any, kit: Any, tmp_path: Path) -> None:
    for name in ("train", "val"):
        items = {record["question_id"]: np.ones((1, 5), np.float32) for record in world.splits[name]}
        kit.store(tmp_path / "sound" / name, "audio", items)
    sources = find(world, **both(world), features={"audio": str(tmp_path / "sound")})
    assert [(source.name, source.by_image) for source in sources] == [
        ("text", False),
        ("image", True),
        ("audio", False),
    ]
    # Said alone, features stand for themselves: no text or image store is looked for.
    assert [source.name for source in find(world, features={"audio": str(tmp_path / "sound")})] == ["audio"]
    with pytest.raises(UsageError, match="said twice"):
        find(world, text=str(world.text), features={"text": str(world.text)})


def test_what_isn_t_needed_isn_t_looked_for(world: Any) -> None:
    (text,) = find(world, text=str(world.text), needed=("text",))
    assert text.name == "text"
    assert [source.name for source in find(world, **both(world), needed=("text",))] == ["text", "image"]


def test_a_folder_that_only_bears_a_model_s_name_is_passed_over(
    world: Any, private_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = at_home(world, private_home)
    (tmp_path / "bert").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find(world, text="bert")[0].paths["val"] == stores / "bert-00000000" / "val"
    shutil.copytree(world.text, tmp_path / "bert", dirs_exist_ok=True)
    assert find(world, text="bert")[0].paths["val"] == Path("bert") / "val"


def test_every_refusal_is_a_user_s_error() -> None:
    assert all(
        issubclass(kind, UmecacheError) and kind.exit_status == 2
        for kind in (StoreMismatch, StoreMissing, StoreIncomplete)
    )


def test_data_names_lead_to_stores(world: Any, private_home: Path) -> None:
    """Stores belong to the data folder's name, wherever that folder lies."""
    moved = private_home / "data" / "other"
    shutil.copytree(world.data, moved)
    at_home(world, private_home)
    dataset = open_dataset(moved)
    with pytest.raises(StoreMissing, match="other has no text store"):
        find_sources(dataset, [dataset.split("train"), dataset.split("val")])


def with_layers(world: Any, private_home: Path, kit: Any, *layers: str, model: str = "bert") -> None:
    stores = at_home(world, private_home)
    for layer in layers:
        for name in ("train", "val"):
            kit.store(
                stores / f"{model}-{layer.strip('-') * 8}" / name,
                "text",
                kit.text_items(world.splits[name]),
                model=model,
                digests=kit.text_digests(world.splits[name]),
                recipe={"weights_sha256": "0" * 64, "layers": layer},
            )


def test_a_layer_is_chosen_and_several_are_features_of_their_own(world: Any, private_home: Path, kit: Any) -> None:
    with_layers(world, private_home, kit, "-2", "-4")  # beside the last
    chosen, _ = find(world, text="bert@-4")
    assert (chosen.name, chosen.paths["val"].parent.name) == ("text", "bert-44444444")
    one, two, image = find(world, text="bert@-1,-4")
    assert [source.name for source in (one, two, image)] == ["text@-1", "text@-4", "image"]
    assert one.paths["train"].parent.name == "bert-00000000", "-1 is the last here"
    by_folder = find(world, text=f"{one.paths['train'].parent},{two.paths['train'].parent}")
    assert [source.name for source in by_folder] == ["text@1", "text@2", "image"]
    with pytest.raises(UsageError, match="3 text stores"):
        find(world, text="bert")
    with pytest.raises(StoreMissing, match="layer -3") as refused:
        find(world, text="bert@-3")
    assert "--layers -3" in refused.value.next


def test_where_both_are_stored_minus_one_is_not_the_last(world: Any, private_home: Path, kit: Any) -> None:
    with_layers(world, private_home, kit, "-1")
    for layer, folder in (("-1", "bert-11111111"), ("last", "bert-00000000")):
        assert find(world, text=f"bert@{layer}")[0].paths["val"].parent.name == folder


def test_layers_of_two_encoders_are_not_mixed(world: Any, private_home: Path, kit: Any) -> None:
    with_layers(world, private_home, kit, "-4", model="roberta")
    stores = private_home / "stores" / "world"
    with pytest.raises(StoreMismatch, match="not layers of one encoder"):
        find(world, text=f"{stores / 'bert-00000000'},{stores / 'roberta-44444444'}")
    with pytest.raises(StoreMismatch, match="does not hold layer -2"):
        find(world, text=f"{stores / 'roberta-44444444'}@-2")


def test_homes_are_looked_through_in_order(
    world: Any, private_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = tmp_path / "lab"
    theirs = at_home(world, lab)
    monkeypatch.setenv("UMECACHE_HOME", f"{private_home}:{lab}")
    text, image = find(world)
    assert text.paths["train"] == theirs / "bert-00000000/train"
    own = private_home / "stores/world/bert-00000000"
    shutil.copytree(world.text / "train", own / "train")
    (own / "val/.writing").mkdir(parents=True)  # being written; the lab's is whole
    text, image = find(world, text="bert")
    assert text.paths == {"train": own / "train", "val": theirs / "bert-00000000/val"}
    assert image.paths["val"] == theirs / "vit-00000000/val"
    with pytest.raises(StoreMissing, match=f"Looked in {private_home}.*, {lab}"):
        find(world, text="roberta")
