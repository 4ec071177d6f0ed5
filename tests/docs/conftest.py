"""The reader's machine, made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docs.laptop import Laptop


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """Data, stores, a comparison; made with the tool itself."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = Laptop(tmp_path_factory.mktemp("laptop"), monkeypatch)
    yield made
