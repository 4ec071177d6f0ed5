"""transformers says nothing inside, and is as it was afterwards."""

from __future__ import annotations

import pytest
from transformers.utils import logging

from umecache.encoders.quiet import quiet_transformers


def test_settings_are_put_back() -> None:
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with quiet_transformers():
        assert logging.get_verbosity() == logging.ERROR
        assert not logging.is_progress_bar_enabled()
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_also_after_an_error() -> None:
    before = logging.get_verbosity()
    with pytest.raises(KeyError), quiet_transformers():
        raise KeyError
    assert logging.get_verbosity() == before


def test_warnings_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet_transformers():
        logging.get_logger("transformers.test").warning("a load report")
    assert "load report" not in capsys.readouterr().err
