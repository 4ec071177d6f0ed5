"""Lets pytest explain the asserts of the conformance suite, which is no test file itself."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.encoders.contract")
