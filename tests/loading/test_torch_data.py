"""The PyTorch Dataset and DataLoader: the same numbers, from any number of workers, however they are started."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import umecache
from umecache.errors import UsageError
from umecache.loading.examples import Batch, Examples, open_examples
from umecache.loading.torch_data import EpochBatches, Sample, TensorBatch, TokenDataset, data_loader, pad


def assert_same(found: TensorBatch, expected: Batch) -> None:
    np.testing.assert_array_equal(found.ids.numpy(), expected.ids)
    np.testing.assert_array_equal(found.labels.numpy(), expected.labels)
    assert list(found.features) == list(expected.features)
    for name, (tokens_BTD, mask_BT) in found.features.items():
        np.testing.assert_array_equal(tokens_BTD.numpy(), expected.features[name][0])
        np.testing.assert_array_equal(mask_BT.numpy(), expected.features[name][1])


@pytest.mark.parametrize("workers", [{}, {"num_workers": 2, "multiprocessing_context": "fork"}])
def test_a_loader_gives_what_numpy_gives(opened: SimpleNamespace, workers: dict[str, Any]) -> None:
    examples: Examples = opened.examples
    loader = data_loader(examples, 16, shuffle=True, order_seed=3, window=5, **workers)
    for epoch in range(2):
        expected = list(examples.batches(16, order_seed=3, epoch=epoch, window=5))
        found = list(loader)
        assert len(found) == len(expected) == len(loader)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)


def test_spawned_workers_open_the_stores_themselves(said: dict[str, Any]) -> None:
    index = [3, 1, 4, 1, 5]
    examples = open_examples("train", **said, soft=True)
    loader = data_loader(examples, 2, index=index, num_workers=1, multiprocessing_context="spawn")
    found = list(loader)
    for one, expected in zip(found, examples.batches(2, index=index), strict=True):
        assert_same(one, expected)
    np.testing.assert_array_equal(torch.cat([each.soft for each in found]), examples.soft_labels(index))


def test_samples_in_a_loader_of_one_s_own(opened: SimpleNamespace) -> None:
    dataset = TokenDataset(opened.examples)
    sample = dataset[2]
    assert isinstance(sample, Sample)
    assert sample.id == opened.examples.ids[2] and sample.features["text"].ndim == 2
    own: DataLoader[Any] = DataLoader(dataset, batch_size=5, collate_fn=pad)
    for found, expected in zip(own, opened.examples.batches(5), strict=True):
        assert_same(found, expected)
    with pytest.raises(IndexError):
        _ = dataset[len(dataset)]


def test_an_input_that_could_not_be_read_is_padding_only() -> None:
    one = Sample(1, 0, {"image": torch.ones(2, 3)})
    none = Sample(2, -1, {"image": torch.empty(0, 3)})
    tokens_BTD, mask_BT = pad([none, one]).features["image"]
    assert mask_BT.tolist() == [[False, False], [True, True]]
    assert not tokens_BTD[0].any() and tokens_BTD[1].all()
    assert pad([none]).features["image"][0].shape == (1, 1, 3)


def test_a_pass_is_an_epoch_and_a_checkpoint_can_set_it(opened: SimpleNamespace) -> None:
    batches = EpochBatches(opened.examples, 8, shuffle=True, drop_last=True)
    first, second = list(batches), list(batches)
    assert first != second and len(first) == len(batches)
    assert {len(each) for each in first} == {8}
    batches.epoch = 1
    assert list(batches) == second
    still = EpochBatches(opened.examples, 8, index=[2, 1, 0])
    assert list(still) == list(still) == [[2, 1, 0]]
    with pytest.raises(UsageError, match="batch_size 0"):
        EpochBatches(opened.examples, 0)


def test_a_loop_of_one_s_own_learns(opened: SimpleNamespace) -> None:
    examples: Examples = opened.examples
    assert examples.vocab is not None
    torch.manual_seed(0)
    fusion = umecache.build_fusion("concat", examples.dims, width=32)
    classifier = torch.nn.Linear(fusion.out_dim, len(examples.vocab))
    optimizer = torch.optim.Adam([*fusion.parameters(), *classifier.parameters()], lr=3e-3)
    loader = data_loader(examples, 32, shuffle=True, index=examples.labelled)
    losses = []
    for _ in range(6):
        for batch in loader:
            loss = torch.nn.functional.cross_entropy(classifier(fusion(batch.features)), batch.labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
