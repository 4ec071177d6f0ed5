"""The sample's splits, opened once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from umecache.data.dataset import open_dataset
from umecache.loading.examples import open_examples


@pytest.fixture(scope="module")
def said(sample_run: SimpleNamespace) -> dict[str, Any]:
    return {"data": sample_run.data, **sample_run.stores}


@pytest.fixture(scope="module")
def opened(said: dict[str, Any]) -> SimpleNamespace:
    examples = open_examples("train", **said)
    return SimpleNamespace(examples=examples, split=open_dataset(said["data"]).split("train"))
