"""Cached features as a PyTorch Dataset and DataLoader, for a training loop of one's own.

    train = umecache.open_examples("train", data="vqa-v2", text="minilm", image="mobilenetv2")
    loader = umecache.data_loader(train, batch_size=64, shuffle=True, index=train.labelled, num_workers=2)
    fusion = umecache.build_fusion("ume", train.dims, width=256)
    for batch in loader:
        logits_BC = classifier(fusion(batch.features))

Each worker gathers whole batches from the stores' memory maps, which all of them share; a batch crosses to the training
process once. Workers may be forked or spawned. Shapes: B batch, T tokens, D width, C answer classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from umecache.errors import UsageError
from umecache.loading.examples import Examples, cut
from umecache.training.order import Index

T = TypeVar("T")


class Sample(NamedTuple):
    """One question, not padded."""

    id: int
    label: int  # class, or -1
    features: dict[str, Tensor]  # modality -> [T, D]


class TensorBatch(NamedTuple):
    """A batch; a fusion takes its `features` as they are. `pin_memory` and `.to` of the parts work as for any tuple."""

    ids: Tensor  # [B] int64
    labels: Tensor  # [B] int64, -1 where there is no class
    features: dict[str, tuple[Tensor, Tensor]]  # modality -> tokens [B, T, D], mask [B, T] bool
    soft: Tensor | None = None  # official soft scores [B, C] float32, where the examples have them


class TokenDataset(Dataset[Any]):
    """Examples as a map-style dataset: a position gives a `Sample`, a list of them a `TensorBatch`.

    With a DataLoader of one's own: `DataLoader(TokenDataset(examples), batch_size=64, collate_fn=pad)`.
    """

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, at: int | Sequence[int] | Index) -> Sample | TensorBatch:
        examples = self.examples
        if isinstance(at, Sequence | np.ndarray):
            batch = examples.batch(at)
            return TensorBatch(
                torch.from_numpy(batch.ids),
                torch.from_numpy(batch.labels),
                {name: (torch.from_numpy(t), torch.from_numpy(mask)) for name, (t, mask) in batch.features.items()},
                None if batch.soft is None else torch.from_numpy(batch.soft),
            )
        position = int(at)
        if not -len(self) <= position < len(self):
            raise IndexError(position)  # the end of `for sample in dataset`
        features = {name: torch.from_numpy(tokens_TD) for name, tokens_TD in examples[position].items()}
        return Sample(int(examples.ids[position]), int(examples.labels[position]), features)


class EpochBatches(Sampler[list[int]]):
    """Batches of positions, in another order each epoch; every pass over it is the next epoch.

    Args:
        shuffle: False: always the order of `index`.
        window: images whose questions are shuffled together; None: all questions are shuffled.
        index: positions to draw from; None: all.

    Attributes:
        epoch: the one that comes next; set it to go on from a checkpoint.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        *,
        shuffle: bool = False,
        order_seed: int = 0,
        window: int | None = None,
        index: Sequence[int] | Index | None = None,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size {batch_size}: give a whole number from 1.")
        self._examples, self._index = examples, index
        self._size, self._drop_last = batch_size, drop_last
        self._seed = order_seed if shuffle else None
        self._window = window
        self.epoch = 0

    def __iter__(self) -> Iterator[list[int]]:
        # A generator, so that an epoch begins with its first batch: a DataLoader with workers makes two and uses one.
        order = self._examples.order(order_seed=self._seed, epoch=self.epoch, window=self._window, index=self._index)
        self.epoch += 1
        for part in cut(order, self._size, drop_last=self._drop_last):
            yield part.tolist()

    def __len__(self) -> int:
        count = len(self._examples) if self._index is None else len(self._index)
        return count // self._size if self._drop_last else -(-count // self._size)


def data_loader(
    examples: Examples,
    batch_size: int,
    *,
    shuffle: bool = False,
    order_seed: int = 0,
    window: int | None = None,
    index: Sequence[int] | Index | None = None,
    drop_last: bool = False,
    **options: Any,
) -> DataLoader[Any]:
    """A DataLoader of `TensorBatch`es.

    Args:
        batch_size: questions.
        shuffle, order_seed, window, index, drop_last: see `EpochBatches`, which is the loader's `sampler`.
        options: of DataLoader: num_workers, pin_memory, multiprocessing_context, persistent_workers, ...

    Raises:
        UsageError: a batch size below 1.
    """
    batches = EpochBatches(
        examples, batch_size, shuffle=shuffle, order_seed=order_seed, window=window, index=index, drop_last=drop_last
    )
    # batch_size=None: the sampler gives whole batches, each gathered in one go by TokenDataset.
    return DataLoader(TokenDataset(examples), batch_size=None, sampler=batches, collate_fn=_as_it_is, **options)


def pad(samples: Sequence[Sample]) -> TensorBatch:
    """Samples as one padded batch: a `collate_fn` for a DataLoader of one's own."""
    features = {}
    for name in samples[0].features:
        records = [sample.features[name] for sample in samples]
        lengths_B = torch.tensor([len(record_TD) for record_TD in records])
        longest = max(int(lengths_B.max()), 1)
        tokens_BTD = records[0].new_zeros(len(records), longest, records[0].shape[1])
        for row_TD, record_TD in zip(tokens_BTD, records, strict=True):
            row_TD[: len(record_TD)] = record_TD
        features[name] = tokens_BTD, torch.arange(longest) < lengths_B[:, None]
    return TensorBatch(
        torch.tensor([sample.id for sample in samples]), torch.tensor([sample.label for sample in samples]), features
    )


def _as_it_is(batch: T) -> T:
    return batch
