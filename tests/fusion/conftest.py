"""Lets pytest explain the asserts of the conformance suite, and gives every test a seed of its own."""

from __future__ import annotations

import pytest
import torch

pytest.register_assert_rewrite("tests.fusion.contract")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random inputs, the same in every run and in any order of tests."""
    torch.manual_seed(0)
