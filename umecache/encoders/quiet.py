"""Keeps transformers from writing bars and load reports while an encoder is built.

    with quiet_transformers():
        BertModel.from_pretrained(...)

What matters in those reports (weights that are missing or left over) is checked by `umecache.encoders.weights`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Errors only and no bars inside; the user's own settings are put back afterwards."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
